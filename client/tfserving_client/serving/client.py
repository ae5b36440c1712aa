"""The client of threads, for any model."""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, Self

from tfserving_client.call.coalescing import Queue, Queues
from tfserving_client.call.exchange import Transport
from tfserving_client.call.steps import Call, Hedge, Result, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.errors import CLOSED, CallError, Unreachable
from tfserving_client.results import Metadata, VersionStatus
from tfserving_client.serving import protocols
from tfserving_client.serving.verbs import READY_TIMEOUT, Verbs

_COPIES = 64  # of requests that may be hedged, under way at once; beyond it calls are not hedged


class ServingClient(Verbs):
    """Asks a model on TensorFlow Serving, whatever it is.

        with ServingClient("grpc://localhost:8500", model="price") as serving:
            serving.wait_until_ready()
            print(serving.metadata().signatures)

    Threads may share one client; it holds connections, so make one per process and close it. It
    connects at its first call: made before a fork, it can be used after it, in parent and child.

    The arguments are those of `tfserving_client.serving.verbs.Verbs`.
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
        return protocols.transport(target)


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
