"""The client of coroutines, for any model. The same verbs as in `client`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Self

from tfserving_client.call.coalescing import Queue, Queues
from tfserving_client.call.exchange import AsyncTransport
from tfserving_client.call.steps import Call, Hedge, Result, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.errors import CallError
from tfserving_client.results import Metadata, VersionStatus
from tfserving_client.serving import protocols
from tfserving_client.serving.verbs import READY_TIMEOUT, Verbs


class AsyncServingClient(Verbs):
    """`ServingClient` for asyncio.

        async with AsyncServingClient("grpc://localhost:8500", model="price") as serving:
            await serving.wait_until_ready()

    Coroutines may share one client. It connects at its first call, in the event loop that runs
    then; on another loop it connects anew. A cancelled call is taken back.

    The arguments are those of `tfserving_client.serving.verbs.Verbs`.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, and end what still waits. Later calls raise `Unreachable`."""
        self._is_closed = True
        if home := self._homes.get(asyncio.get_running_loop()):
            await home.close()

    async def status(
        self,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """See `ServingClient.status`."""
        return await self._run(self._status(version, timeout))

    async def metadata(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """See `ServingClient.metadata`."""
        return await self._run(self._metadata(version, label, timeout))

    async def ready(
        self,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> bool:
        """See `ServingClient.ready`."""
        return await self._run(self._ready(version, timeout))

    async def wait_until_ready(
        self,
        *,
        version: int | None = None,
        timeout: float = READY_TIMEOUT,
    ) -> None:
        """See `ServingClient.wait_until_ready`."""
        await self._run(self._wait_until_ready(version, timeout))

    async def _run(self, call: Call[Result]) -> Result:
        """Do what a verb says until it has its answer."""
        home = await self._here()
        try:
            step = next(call)
            while True:
                try:
                    outcome = await self._perform(step, home)
                except BaseException as error:
                    step = call.throw(error)
                else:
                    step = call.send(outcome)
        except StopIteration as end:
            answer: Result = end.value
            return answer

    async def _perform(self, step: Step, home: _Home) -> Any:
        self._check_open()
        if isinstance(step, Send):
            return await home.send(step)
        if isinstance(step, Hedge):
            return await _hedged(step, home)
        if isinstance(step, Wait):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(home.closing.wait(), step.seconds)
            return None
        # Cheaper than asyncio.timeout; who stood behind a gate looks why it opened.
        alarm = asyncio.get_running_loop().call_later(step.seconds, step.gate.release)
        try:
            await step.gate.acquire()
        finally:
            alarm.cancel()

    async def _here(self) -> _Home:
        """What belongs to this event loop; another one makes its own."""
        self._check_open()
        loop = asyncio.get_running_loop()
        home: _Home | None = self._homes.get(loop)
        if home is None:
            home = _Home([self._connect(target) for target in self._targets])
            others = {key: other for key, other in self._homes.items() if not key.is_closed()}
            self._homes = {**others, loop: home}
            await home.open()
        return home

    def _connect(self, target: Target) -> AsyncTransport:
        return protocols.async_transport(target)


class _Home:
    """Connections and callers of one event loop."""

    def __init__(self, transports: list[AsyncTransport]) -> None:
        self._transports = transports
        self._end = self._close_with_the_loop()
        self.queues = Queues(Queue)
        self.closing = asyncio.Event()

    async def open(self) -> None:
        await anext(self._end)

    async def send(self, step: Send) -> Any:
        transport = self._transports[step.endpoint]
        return await transport.send(step.exchange, step.timeout, step.headers)

    async def close(self) -> None:
        self.closing.set()
        for transport in self._transports:
            await transport.close()

    async def _close_with_the_loop(self) -> AsyncGenerator[None, None]:
        """`asyncio.run` ends the generators that are left before it closes the loop."""
        try:
            yield
        finally:
            await self.close()


async def _hedged(hedge: Hedge, home: _Home) -> Any:
    calls = [asyncio.create_task(home.send(hedge.first))]
    try:
        done, under_way = await asyncio.wait(calls, timeout=hedge.delay)
        if under_way and hedge.allowed():
            calls.append(asyncio.create_task(home.send(hedge.second)))
            done, under_way = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            if under_way and all(isinstance(call.exception(), CallError) for call in done):
                done, under_way = await asyncio.wait(under_way)
        if not done:
            return await calls[0]
        return min(done, key=lambda call: call.exception() is not None).result()
    finally:
        for call in calls:
            call.cancel()
