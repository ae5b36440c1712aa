"""The client of threads, for digits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, overload

from tfserving_client.call.coalescing import MOST
from tfserving_client.digits.classification import Classification
from tfserving_client.digits.parts import Part, Splitter
from tfserving_client.digits.verbs import DigitVerbs
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
        if self._company is None or len(question.batch) >= MOST:
            return self._run(self._classify(question))
        gate = threading.Lock()
        gate.acquire()  # the one who releases it is another thread
        return self._run(self._classify_in_company(question, self._here().queues, gate))

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
        which = self._context(version, label)
        splitter, joiner, threads = self._flow(
            items, batch_size, in_flight, progress, return_exceptions
        )
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part

        def stream() -> Iterator[Classification | ServingError]:
            under_way: deque[tuple[Part, Future[list[Classification | ServingError]]]] = deque()
            pool = ThreadPoolExecutor(threads, "classify_many")
            try:
                for part in _parts(splitter, items):
                    call = self._classify_part(part, which, timeout)
                    under_way.append((part, pool.submit(self._run, call)))
                    while under_way and (len(under_way) > threads or under_way[0][1].done()):
                        part, answers = under_way.popleft()
                        yield from joiner.add(part, answers.result())
                while under_way:
                    part, answers = under_way.popleft()
                    yield from joiner.add(part, answers.result())
            finally:
                # Who goes away early, by Ctrl-C perhaps, does not wait for what is under way.
                pool.shutdown(wait=False, cancel_futures=True)

        return stream()


def _parts(splitter: Splitter, items: Iterable[Any]) -> Iterator[Part]:
    for item in items:
        yield from splitter.add(item)
    yield from splitter.rest()
