"""The client of coroutines. The same verbs as in `client.digit_client`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Literal, Self, overload

from client.coalescing import MOST, Queue, Queues
from client.errors import CallError, DigitsError
from client.exchange import AsyncTransport
from client.parts import Part, Splitter
from client.results import Classification, Metadata, VersionStatus
from client.steps import Call, Hedge, Result, Send, Step, Wait
from client.target import Target
from client.verbs import READY_TIMEOUT, Verbs


class AsyncDigitClient(Verbs):
    """`DigitClient` for asyncio.

        async with AsyncDigitClient("grpc://localhost:8500") as digits:
            answer = await digits.classify(images)

    Coroutines may share one client. It connects at its first call, in the event loop that runs
    then; on another loop it connects anew. A cancelled call is taken back.

    The arguments are those of `client.verbs.Verbs`.
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

    async def classify(
        self,
        images: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """See `DigitClient.classify`."""
        question = self._question(images, version, label, timeout)
        if self._company is None or len(question.batch) >= MOST:
            return await self._run(self._classify(question))
        gate = asyncio.Semaphore(0)
        queues = (await self._here()).queues
        return await self._run(self._classify_in_company(question, queues, gate))

    @overload
    def classify_many(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: Literal[False] = False,
    ) -> AsyncIterator[Classification]: ...

    @overload
    def classify_many(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool,
    ) -> AsyncIterator[Classification | DigitsError]: ...

    def classify_many(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Classification | DigitsError]:
        """See `DigitClient.classify_many`; the items may also come from an async generator."""
        which = self._context(version, label)
        splitter, joiner, tasks = self._flow(
            items, batch_size, in_flight, progress, return_exceptions
        )
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part

        async def stream() -> AsyncIterator[Classification | DigitsError]:
            under_way: deque[tuple[Part, asyncio.Task[list[Classification | DigitsError]]]]
            under_way = deque()
            try:
                async for part in _parts(splitter, items):
                    call = self._classify_part(part, which, timeout)
                    under_way.append((part, asyncio.create_task(self._run(call))))
                    while under_way and (len(under_way) >= tasks or under_way[0][1].done()):
                        part, answers = under_way.popleft()
                        for answer in joiner.add(part, await answers):
                            yield answer
                while under_way:
                    part, answers = under_way.popleft()
                    for answer in joiner.add(part, await answers):
                        yield answer
            finally:
                for _, answers in under_way:
                    answers.cancel()

        return stream()

    async def status(
        self,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """See `DigitClient.status`."""
        return await self._run(self._status(version, timeout))

    async def metadata(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """See `DigitClient.metadata`."""
        return await self._run(self._metadata(version, label, timeout))

    async def ready(
        self,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> bool:
        """See `DigitClient.ready`."""
        return await self._run(self._ready(version, timeout))

    async def wait_until_ready(
        self,
        *,
        version: int | None = None,
        timeout: float = READY_TIMEOUT,
    ) -> None:
        """See `DigitClient.wait_until_ready`."""
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
        if target.grpc:
            from client.grpc_transport import AsyncGrpcTransport

            return AsyncGrpcTransport(target)
        from client.rest_transport import AsyncRestTransport

        return AsyncRestTransport(target)


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


async def _parts(
    splitter: Splitter, items: Iterable[Any] | AsyncIterable[Any]
) -> AsyncIterator[Part]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            for part in splitter.add(item):
                yield part
    else:
        for item in items:
            for part in splitter.add(item):
                yield part
    for part in splitter.rest():
        yield part
