"""The client of threads, for any model."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfserving_client.call.coalescing import Meeting, Queue, Queues
from tfserving_client.call.exchange import Transport
from tfserving_client.call.steps import Call, Hedge, Meet, Result, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.errors import CLOSED, CallError, ServingError, Unreachable, shortened
from tfserving_client.results import Label, Metadata, Prediction, VersionStatus
from tfserving_client.serving import protocols
from tfserving_client.serving.asking import Flow
from tfserving_client.serving.parts import Part, Splitter
from tfserving_client.serving.predicting import SIGNATURE, Predicting, asked
from tfserving_client.serving.rows import PREDICTIONS, Rows
from tfserving_client.serving.verbs import READY_TIMEOUT

_COPIES = 64  # of requests that may be hedged, under way at once; beyond it calls are not hedged


class ServingClient(Predicting):
    """Asks a model on TensorFlow Serving, whatever it is.

        with ServingClient("grpc://localhost:8500", model="price") as serving:
            answer = serving.predict({"rooms": [[3]], "area": [[80]], "city": [["Linz"]]})
            print(answer.outputs["price"], answer.version)

    Threads may share one client; it holds connections, so make one per process and close it. It
    connects at its first call: made before a fork, it can be used after it, in parent and child.

    The arguments are those of `tfserving_client.serving.verbs.Verbs`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end waiting calls. Later calls raise `Unreachable`."""
        self._is_closed = True
        if home := self._homes.get(os.getpid()):
            home.close()

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

    def predict(
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
        """The model's answer.

        Args:
            inputs: input name → array-like; or one array-like, where the signature has one input.
                Text and bytes are strings. Values become the model's dtypes where that loses
                nothing. The signature is asked for once per version, and remembered.
            signature: which of the model's signatures to run.
            outputs: the names of the outputs that are wanted; the default is all.
            version: ask this version; the default is the newest that is loaded.
            label: ask the version that carries this label.
            timeout: seconds, instead of the client's.
            raw: send arrays of the dtypes that they have, unchecked, and ask for no signature.

        Raises:
            InvalidInput: inputs that the signature does not take, or that would lose something;
                nothing was sent.
            CallError: the call failed; see `tfserving_client.errors`.
        """
        call = asked(inputs, signature, outputs, version, label, timeout, raw)
        return self._run(self._predict(call))

    @overload
    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike],
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
    ) -> Iterator[Prediction]: ...

    @overload
    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike],
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
    ) -> Iterator[Prediction | ServingError]: ...

    def predict_many(
        self,
        items: Iterable[Mapping[str, object] | ArrayLike],
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
    ) -> Iterator[Prediction | ServingError]:
        """Predict any number of items, in requests that are under way at the same time.

        Items are merged and cut, where the signature declares a first dimension of any size for
        all inputs and outputs; without it, or with `raw`, each is a request.

        Args:
            items: whatever `predict` takes as inputs, one after the other.
            signature: see `predict`.
            outputs: see `predict`.
            version: see `predict`.
            label: see `predict`.
            timeout: seconds for each request, all its attempts together.
            raw: see `predict`.
            batch_size: rows in one request, at most.
            in_flight: requests under way at once.
            progress: told the number of items that are answered so far.
            return_exceptions: put an item's error in its place, and go on.

        Returns:
            One answer for each item, in order. No more than `in_flight` + 2 requests' worth of
            items is held at any time.

        Raises:
            ServingError: an item's, in its turn, unless exceptions are returned.
        """
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

        def prepared() -> Iterator[Mapping[str, object] | ArrayLike]:
            for item in items:
                if preparing.lacks_signature:
                    self._run(self._learn(preparing))
                yield item

        return self._stream(prepared(), flow, preparing)

    def classify_examples(
        self,
        examples: Iterable[Mapping[str, object]],
        *,
        signature: str = SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> list[list[Label]]:
        """The labels of each example and their scores, by a signature made for Classify.

        Args:
            examples: for each, feature name → number, text, bytes, or a flat list of one kind.
                Integers are int64 features, so write 1.0 for a float.
            signature: see `predict`.
            version: see `predict`.
            label: see `predict`.
            timeout: see `predict`.

        Raises:
            InvalidInput: something other than such examples; nothing was sent.
            CallError: the call failed; see `tfserving_client.errors`.
        """
        ask = self._wire().classify
        call = self._of_examples(ask, examples, signature, version, label, timeout)
        return self._run(call)

    def regress_examples(
        self,
        examples: Iterable[Mapping[str, object]],
        *,
        signature: str = SIGNATURE,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """The number of each example (n,), by a signature made for Regress.

        The arguments and errors are those of `classify_examples`.
        """
        ask = self._wire().regress
        call = self._of_examples(ask, examples, signature, version, label, timeout)
        return self._run(call)

    def _stream(
        self, items: Iterable[Any], flow: Flow, prepare: Callable[[Any], Rows]
    ) -> Iterator[Any]:
        """The answers to many items."""
        under_way: deque[tuple[Part, Future[list[Any]]]] = deque()
        pool = ThreadPoolExecutor(flow.in_flight, "many")
        try:
            for part in _parts(Splitter(flow.size, prepare), items):
                under_way.append((part, pool.submit(self._run, self._ask_part(part, flow))))
                while under_way and (len(under_way) > flow.in_flight or under_way[0][1].done()):
                    part, answers = under_way.popleft()
                    yield from flow.joiner.add(part, answers.result())
            while under_way:
                part, answers = under_way.popleft()
                yield from flow.joiner.add(part, answers.result())
        finally:
            # Who goes away early, by Ctrl-C perhaps, does not wait for what is under way.
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, call: Call[Result]) -> Result:
        """Do what a verb says until it has its answer."""
        try:
            home = self._here()
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
        except ServingError as error:
            raise shortened(error) from None

    def _perform(self, step: Step, home: _Home) -> Any:
        self._check_open()
        if isinstance(step, Send):
            return home.send(step)
        if isinstance(step, Hedge):
            return _hedged(step, home)
        if isinstance(step, Wait):
            return home.closing.wait(step.seconds)
        if isinstance(step, Meet):
            gate = threading.Lock()
            gate.acquire()  # the one who releases it is another thread
            return Meeting(home.queues, gate)
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
        return protocols.transport(target)


def _parts(splitter: Splitter, items: Iterable[Any]) -> Iterator[Part]:
    for item in items:
        yield from splitter.add(item)
    yield from splitter.rest()


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
