"""The client of threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, Literal, Self, overload

from client.coalescing import MOST, Queue, Queues
from client.errors import CLOSED, CallError, DigitsError, Unreachable
from client.exchange import Transport
from client.parts import Part, Splitter
from client.results import Classification, Metadata, VersionStatus
from client.steps import Call, Hedge, Result, Send, Step, Wait
from client.target import Target
from client.verbs import READY_TIMEOUT, Verbs

_COPIES = 64  # of requests that may be hedged, under way at once; beyond it calls are not hedged


class DigitClient(Verbs):
    """Classifies handwritten digits with a model on TensorFlow Serving.

        with DigitClient("grpc://localhost:8500") as digits:
            answer = digits.classify(images)

    Threads may share one client; it holds connections, so make one per process and close it. It
    connects at its first call: made before a fork, it can be used after it, in parent and child.

    The arguments are those of `client.verbs.Verbs`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end what still waits. Later calls raise `Unreachable`."""
        self._is_closed = True
        if home := self._homes.get(os.getpid()):
            home.close()

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
            CallError: the call failed; see `client.errors`.
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
    ) -> Iterator[Classification | DigitsError]: ...

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
    ) -> Iterator[Classification | DigitsError]:
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
            DigitsError: an item's, in its turn, unless exceptions are returned.
        """
        which = self._context(version, label)
        splitter, joiner, threads = self._flow(
            items, batch_size, in_flight, progress, return_exceptions
        )
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part

        def stream() -> Iterator[Classification | DigitsError]:
            under_way: deque[tuple[Part, Future[list[Classification | DigitsError]]]] = deque()
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

    def status(
        self, *, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """State of every version that the server has seen, newest first; or of one version.

        Raises:
            NotFound: the server never saw this model or version.
            CallError: the call failed.
        """
        return self._run(self._status(version, timeout))

    def metadata(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """The signatures of a loaded version.

        Raises:
            NotFound: no such version is loaded.
            CallError: the call failed.
        """
        return self._run(self._metadata(version, label, timeout))

    def ready(self, *, version: int | None = None, timeout: float | None = None) -> bool:
        """Whether some version (or this one) is AVAILABLE; False also where no server answers.

        Raises:
            CallError: a server answers, and its answer will not change by waiting.
        """
        return self._run(self._ready(version, timeout))

    def wait_until_ready(
        self, *, version: int | None = None, timeout: float = READY_TIMEOUT
    ) -> None:
        """Return once some version (or this one) is AVAILABLE.

        Args:
            version: wait for this version.
            timeout: seconds for the whole wait.

        Raises:
            DeadlineExceeded: it did not become ready in time.
            ServerFailed: the version asked for failed to load, with the server's reason.
        """
        self._run(self._wait_until_ready(version, timeout))

    def _run(self, call: Call[Result]) -> Result:
        """Do what a verb says until it has its answer."""
        home = self._here()
        try:
            step = next(call)
            while True:
                try:
                    outcome = self._perform(step, home)
                except BaseException as error:
                    step = call.throw(error)
                else:
                    step = call.send(outcome)
        except StopIteration as end:
            answer: Result = end.value
            return answer

    def _perform(self, step: Step, home: _Home) -> Any:
        self._check_open()
        if isinstance(step, Send):
            return home.send(step)
        if isinstance(step, Hedge):
            return _hedged(step, home)
        if isinstance(step, Wait):
            return home.closing.wait(step.seconds)
        return step.gate.acquire(timeout=step.seconds)

    def _here(self) -> _Home:
        """What belongs to this process; a child forked later makes its own."""
        self._check_open()
        process = os.getpid()
        home: _Home | None = self._homes.get(process)
        if home is None:
            transports = [self._connect(target) for target in self._targets]
            home = self._homes.setdefault(process, _Home(transports))
        return home

    def _connect(self, target: Target) -> Transport:
        # Imported here, so that a caller pays only for the protocol that it uses.
        if target.grpc:
            from client.grpc_transport import GrpcTransport

            return GrpcTransport(target)
        from client.rest_transport import RestTransport

        return RestTransport(target)


class _Home:
    """Connections and callers of one process: threads, locks and sockets do not survive a fork."""

    def __init__(self, transports: list[Transport]) -> None:
        self._transports = transports
        self.queues = Queues(Queue)
        self.closing = threading.Event()
        self._hedges = ThreadPoolExecutor(_COPIES, "hedge")  # starts no thread until it is needed
        self._copies = threading.Semaphore(_COPIES)

    def send(self, step: Send) -> Any:
        transport = self._transports[step.endpoint]
        return transport.send(step.exchange, step.timeout, step.headers)

    def submit(self, step: Send) -> Future[Any] | None:
        """Send from a thread; None if all are busy: in line for one the timeout would not count."""
        if not self._copies.acquire(blocking=False):
            return None
        sent = self._hedges.submit(self.send, step)
        sent.add_done_callback(lambda _: self._copies.release())
        return sent

    def close(self) -> None:
        self.closing.set()
        for transport in self._transports:
            transport.close()
        self._hedges.shutdown(wait=False, cancel_futures=True)


def _hedged(hedge: Hedge, home: _Home) -> Any:
    try:
        first = home.submit(hedge.first)
        if first is None:
            return home.send(hedge.first)
        if wait([first], hedge.delay).done or not hedge.allowed():
            return first.result()
        second = home.submit(hedge.second)
        if second is None:
            return first.result()
        done, under_way = wait([first, second], return_when=FIRST_COMPLETED)
        if under_way and all(isinstance(answer.exception(), CallError) for answer in done):
            return under_way.pop().result()
        return min(done, key=lambda answer: answer.exception() is not None).result()
    except (CancelledError, RuntimeError) as error:  # the threads were shut down meanwhile
        if not home.closing.is_set():
            raise
        raise Unreachable(hedge.first.exchange.context, CLOSED) from error


def _parts(splitter: Splitter, items: Iterable[Any]) -> Iterator[Part]:
    for item in items:
        yield from splitter.add(item)
    yield from splitter.rest()
