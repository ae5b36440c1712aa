"""What only coroutines can do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import Server, serve_grpc, serve_http
from tfserving_client import AsyncDigitClient, Policy, Unreachable

IMAGE = np.full((28, 28), 5, np.uint8)
ONCE = Policy(attempts=1, timeout=30)


async def _settled() -> set[asyncio.Task[Any]]:
    for _ in range(10):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("hedge_after", [None, 0.01])
@pytest.mark.parametrize("coalesce", [False, True])
def test_a_cancelled_call_leaves_nothing_and_the_client_is_as_before(
    server: Server, hedge_after: float | None, coalesce: bool
) -> None:
    policy = Policy(attempts=1, timeout=30, hedge_after=hedge_after)

    async def cancel() -> None:
        go_on = threading.Event()
        server.see(pause=lambda: go_on.wait(30))
        async with AsyncDigitClient(server.url, policy=policy, coalesce=coalesce) as digits:
            calls = [asyncio.create_task(digits.classify(IMAGE)) for _ in range(4)]
            while len(server.calls) < (1 if coalesce else 4):
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError] * 4
            go_on.set()
            server.see()
            assert not await _settled()
            assert (await digits.classify(IMAGE)).digits.tolist() == [5]
            assert not await _settled()

    asyncio.run(cancel())


def test_a_callers_own_timeout_is_a_timeout_not_a_closed_channel(server: Server) -> None:
    over = threading.Event()
    server.see(pause=lambda: over.wait(30))

    async def wait() -> None:
        async with AsyncDigitClient(server.url, policy=ONCE) as digits:
            with pytest.raises(TimeoutError) as failure:
                async with asyncio.timeout(0.1):
                    await digits.classify(IMAGE)
            assert type(failure.value) is TimeoutError

    try:
        asyncio.run(wait())
    finally:
        over.set()


@pytest.mark.parametrize("serve", [serve_grpc, serve_http])
def test_one_client_serves_one_event_loop_after_another(serve: Callable[[], Any]) -> None:
    with serve() as server:
        server.see()
        digits = AsyncDigitClient(server.url, policy=ONCE)

        async def ask() -> list[int]:
            answers = await asyncio.gather(*(digits.classify(IMAGE) for _ in range(3)))
            return [int(answer.digits[0]) for answer in answers]

        for _ in range(3):
            assert asyncio.run(ask()) == [5, 5, 5]
            gc.collect()  # connections of a loop that has ended would warn
        asyncio.run(digits.close())
        with pytest.raises(Unreachable, match="closed"):
            asyncio.run(ask())


@pytest.mark.parametrize("serve", [serve_grpc, serve_http])
def test_a_client_that_nobody_closed_ends_with_its_loop(serve: Callable[[], Any]) -> None:
    async def forget(url: str) -> None:
        await AsyncDigitClient(url, policy=ONCE).classify(IMAGE)
        gc.collect()

    with serve() as server:
        server.see()
        asyncio.run(forget(server.url))
        gc.collect()


@pytest.mark.parametrize("serve", [serve_grpc, serve_http])
def test_close_may_be_called_by_several_at_once(serve: Callable[[], Any]) -> None:
    async def close(url: str) -> None:
        digits = AsyncDigitClient(url, policy=ONCE)
        await digits.classify(IMAGE)
        await asyncio.gather(digits.close(), digits.close())

    with serve() as server:
        server.see()
        asyncio.run(close(server.url))


def test_loops_in_two_threads_share_a_client(server: Server) -> None:
    server.see()
    digits = AsyncDigitClient(server.url, policy=ONCE)

    async def ask(turns: asyncio.Semaphore) -> None:
        for _ in range(20):
            async with turns:
                assert (await digits.classify(IMAGE)).digits.tolist() == [5]

    def run() -> Coroutine[Any, Any, None]:
        return ask(asyncio.Semaphore(1))

    async def both() -> None:
        other = asyncio.to_thread(lambda: asyncio.run(run()))
        await asyncio.gather(other, run())

    asyncio.run(both())
