"""The client of threads, for digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, overload

from tfserving_client.digits.classification import Classification
from tfserving_client.digits.verbs import CLASSIFICATIONS, DigitVerbs, ready
from tfserving_client.errors import ServingError
from tfserving_client.serving.client import ServingClient


class DigitClient(DigitVerbs, ServingClient):
    """Classifies handwritten digits with a model on TensorFlow Serving.

        with DigitClient("grpc://localhost:8500") as digits:
            answer = digits.classify(images)

    A `ServingClient` that knows the digits' signatures; the arguments are those of
    `tfserving_client.digits.verbs.DigitVerbs`.
    """

    def classify(
        self,
        images: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """Which digit is on each image.

        Args:
            images: integers in 0..255 or floats in 0..1 of shape (28, 28), (n, 28, 28),
                (n, 28, 28, 1) or (n, 784), white ink on black as in MNIST; or pictures (paths,
                bytes of PNG or JPEG, PIL images; one or a list), of any size and on any paper.
            version: ask this version; the default is the newest that is loaded.
            label: ask the version that carries this label.
            timeout: seconds, instead of the client's.

        Raises:
            InvalidInput: something other than such images; nothing was sent.
            CallError: the call failed; see `tfserving_client.errors`.
        """
        question = self._question(images, version, label, timeout)
        answer: Classification = self._run(self._answer(question))
        return answer

    @overload
    def classify_many(
        self,
        items: Iterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: Literal[False] = False,
    ) -> Iterator[Classification]: ...

    @overload
    def classify_many(
        self,
        items: Iterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool,
    ) -> Iterator[Classification | ServingError]: ...

    def classify_many(
        self,
        items: Iterable[Any],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
        batch_size: int = 256,
        in_flight: int = 4,
        progress: Callable[[int], None] | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Classification | ServingError]:
        """Classify any number of items, in requests that are under way at the same time.

        Args:
            items: whatever `classify` takes, one after the other: images, arrays of images, paths.
            version: see `classify`.
            label: see `classify`.
            timeout: seconds for each request, all its attempts together.
            batch_size: images in one request, at most.
            in_flight: requests under way at once.
            progress: told the number of items that are answered so far.
            return_exceptions: put an item's error in its place, and go on.

        Returns:
            One answer for each item, in order. No more than `in_flight` + 2 requests' worth of
            items is held at any time.

        Raises:
            ServingError: an item's, in its turn, unless exceptions are returned.
        """
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
