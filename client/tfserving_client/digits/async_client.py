"""The client of coroutines, for digits. The same verbs as in `client`, awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Literal, overload

from tfserving_client.call.coalescing import MOST
from tfserving_client.digits.classification import Classification
from tfserving_client.digits.parts import Part, Splitter
from tfserving_client.digits.verbs import DigitVerbs
from tfserving_client.errors import ServingError
from tfserving_client.serving.async_client import AsyncServingClient


class AsyncDigitClient(DigitVerbs, AsyncServingClient):
    """`DigitClient` for asyncio.

        async with AsyncDigitClient("grpc://localhost:8500") as digits:
            answer = await digits.classify(images)

    An `AsyncServingClient` that knows the digits' signatures; the arguments are those of
    `tfserving_client.digits.verbs.DigitVerbs`.
    """

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
    ) -> AsyncIterator[Classification | ServingError]: ...

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
    ) -> AsyncIterator[Classification | ServingError]:
        """See `DigitClient.classify_many`; the items may also come from an async generator."""
        which = self._context(version, label)
        splitter, joiner, tasks = self._flow(
            items, batch_size, in_flight, progress, return_exceptions
        )
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part

        async def stream() -> AsyncIterator[Classification | ServingError]:
            under_way: deque[tuple[Part, asyncio.Task[list[Classification | ServingError]]]]
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
