"""The client of coroutines, for digits. The same verbs as in `client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Literal, overload

from tfserving_client.digits.classification import Classification
from tfserving_client.digits.verbs import CLASSIFICATIONS, DigitVerbs, ready
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
        answer: Classification = await self._run(self._answer(question))
        return answer

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
        flow = self._flow(
            CLASSIFICATIONS,
            items,
            self._context(version, label),
            timeout,
            batch_size,
            in_flight,
            progress,
            return_exceptions,
        )
        return self._stream(items, flow, ready)
