from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tfserving_client import NotFound, Overloaded, Rejected, State, Unreachable
from tfserving_client.testing import FakeServer

IMAGES = np.zeros((2, 28, 28), np.uint8)


def test_unscripted_it_answers_with_its_digit_and_newest_version() -> None:
    server = FakeServer(digit=3, versions={1: State.AVAILABLE, 2: State.LOADING})
    with server.client() as digits:
        answer = digits.classify(IMAGES)
        assert (answer.digits.tolist(), answer.version) == ([3, 3], 1)
        assert digits.ready()
        assert [row.state for row in digits.status()] == [State.LOADING, State.AVAILABLE]
        assert digits.metadata().signatures["packed"].inputs["images"].dtype == "DT_STRING"


def test_scripted_answers_come_in_order_and_waits_are_told() -> None:
    server = FakeServer()
    server.will_answer(7, 1)
    server.will_fail(Unreachable)
    server.will_fail(Overloaded, retry_after=3.5)
    server.will_answer(probabilities=np.full((2, 10), 0.1))
    with server.client(api_key="secret") as digits:
        assert digits.classify(IMAGES).digits.tolist() == [7, 1]
        assert (
            digits.classify(IMAGES).probabilities.tolist() == np.full((2, 10), "0.1", "f").tolist()
        )
    assert server.waited[1] == 3.5
    assert [(call.images, call.context.signature) for call in server.received] == [
        (2, "serving_default")
    ] * 4
    assert server.received[0].headers["x-api-key"] == "secret"


def test_failures_carry_the_scripted_words_and_versions_are_found_or_not() -> None:
    server = FakeServer(versions={5: State.AVAILABLE})
    server.will_fail(Rejected, "not today")
    with server.client() as digits:
        with pytest.raises(Rejected, match="not today"):
            digits.classify(IMAGES)
        assert digits.classify(IMAGES, version=5).version == 5
        with pytest.raises(NotFound, match=r"Specific\(mnist, 6\)"):
            digits.classify(IMAGES, version=6)
        with pytest.raises(NotFound):
            digits.status(version=6)


def test_coroutines_get_the_same() -> None:
    async def main() -> list[int]:
        server = FakeServer(digit=4)
        server.will_fail(Unreachable)
        async with server.async_client() as digits:
            answers = [answer async for answer in digits.classify_many(IMAGES)]
            assert await digits.ready()
            return [int(answer.digits[0]) for answer in answers]

    assert asyncio.run(main()) == [4, 4]


def test_who_waits_lets_others_work() -> None:
    async def main() -> None:
        server = FakeServer(versions={1: State.LOADING})
        async with server.async_client() as digits:
            waiting = asyncio.create_task(digits.wait_until_ready(timeout=30))
            while not server.waited:
                await asyncio.sleep(0)
            server.versions[1] = State.AVAILABLE
            await waiting

    asyncio.run(main())
