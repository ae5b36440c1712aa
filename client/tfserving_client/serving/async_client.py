"""The client of coroutines, for any model. The same verbs as in `client`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfserving_client.call.coalescing import Meeting, Queue, Queues
from tfserving_client.call.exchange import AsyncTransport
from tfserving_client.call.steps import Call, Hedge, Meet, Result, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.errors import CallError, ServingError, shortened
from tfserving_client.results import Label, Metadata, Prediction, VersionStatus
from tfserving_client.serving import protocols
from tfserving_client.serving.asking import Flow
from tfserving_client.serving.parts import Part, Splitter
from tfserving_client.serving.predicting import SIGNATURE, Predicting, asked
from tfserving_client.serving.rows import PREDICTIONS, Rows
from tfserving_client.serving.verbs import READY_TIMEOUT


class AsyncServingClient(Predicting):
    """`ServingClient` for asyncio.

        async with AsyncServingClient("grpc://localhost:8500", model="price") as serving:
            answer = await serving.predict({"rooms": [[3]], "area": [[80]], "city": [["Linz"]]})

    Coroutines may share one client. It connects at its first call, in the event loop that runs
    then; on another loop it connects again. A cancelled call is also cancelled on the connection.

    The arguments are those of `tfserving_client.serving.verbs.Verbs`.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and end waiting calls. Later calls raise `Unreachable`."""
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

    async def predict(
        self,
        inputs: Mapping[str, object] | ArrayLike,
        *,
        signature: str = SIGNATURE,
        outputs: str | Sequence[str] | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        raw: bool = False,
    ) -> Prediction:
        """See `ServingClient.predict`."""
        call = asked(inputs, signature, outputs, version, label, timeout, raw)
        return await self._run(self._predict(call))

    @overload
    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike]
        | AsyncIterable[Mapping[str, object] | ArrayLike],
        *,
        signature: str = SIGNATURE,
        outputs: str | Sequence[str] | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        raw: bool = False,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: Literal[False] = False,
    ) -> AsyncIterator[Prediction]: ...

    @overload
    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike]
        | AsyncIterable[Mapping[str, object] | ArrayLike],
        *,
        signature: str = SIGNATURE,
        outputs: str | Sequence[str] | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        raw: bool = False,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool,
    ) -> AsyncIterator[Prediction | ServingError]: ...

    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike]
        | AsyncIterable[Mapping[str, object] | ArrayLike],
        *,
        signature: str = SIGNATURE,
        outputs: str | Sequence[str] | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        raw: bool = False,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Prediction | ServingError]:
        """See `ServingClient.predict_many`; the items may also come from an async generator."""
        each = asked(None, signature, outputs, version, label, timeout, raw)
        flow = self._flow(
            PREDICTIONS,
            items,
            self._which(each),
            timeout,
            batch_size,
            in_flight,
            progress,
            return_exceptions,
        )
        preparing = self._preparing(each, flow.size)

        async def prepared() -> AsyncIterator[Mapping[str, object] | ArrayLike]:
            async for item in _each(items):
                if preparing.lacks_signature:
                    await self._run(self._learn(preparing))
                yield item

        return self._stream(prepared(), flow, preparing)

    async def classify_examples(
        self,
        examples: Iterable[Mapping[str, object]],
        *,
        signature: str = SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Label]]:
        """See `ServingClient.classify_examples`."""
        ask = self._wire().classify
        call = self._of_examples(ask, examples, signature, version, label, timeout)
        return await self._run(call)

    async def regress_examples(
        self,
        examples: Iterable[Mapping[str, object]],
        *,
        signature: str = SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """See `ServingClient.regress_examples`."""
        ask = self._wire().regress
        call = self._of_examples(ask, examples, signature, version, label, timeout)
        return await self._run(call)

    async def _stream(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        flow: Flow,
        prepare: Callable[[Any], Rows],
    ) -> AsyncGenerator[Any, None]:
        """The answers to many items."""
        under_way: deque[tuple[Part, asyncio.Task[list[Any]]]] = deque()
        try:
            async for part in _parts(Splitter(flow.size, prepare), items):
                task = asyncio.create_task(self._run(self._ask_part(part, flow)))
                under_way.append((part, task))
                while under_way and (len(under_way) >= flow.in_flight or under_way[0][1].done()):
                    part, answers = under_way.popleft()
                    for answer in flow.joiner.add(part, await answers):
                        yield answer
            while under_way:
                part, answers = under_way.popleft()
                for answer in flow.joiner.add(part, await answers):
                    yield answer
        finally:
            for _, answers in under_way:
                answers.cancel()

    async def _run(self, call: Call[Result]) -> Result:
        """Do what a verb says until it has its answer."""
        try:
            home = await self._here()
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
        except ServingError as error:
            raise shortened(error) from None

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
        if isinstance(step, Meet):
            return Meeting(home.queues, asyncio.Semaphore(0))
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


async def _parts(
    splitter: Splitter, items: Iterable[Any] | AsyncIterable[Any]
) -> AsyncIterator[Part]:
    async for item in _each(items):
        for part in splitter.add(item):
            yield part
    for part in splitter.rest():
        yield part


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


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
