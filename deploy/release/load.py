"""Generate load in a separate process: prepared requests over gRPC.

In an open loop each request is sent when it is due, and its latency counts from then, so a server
that stalls cannot slow the requests down and hide the stall. In a closed loop each caller sends the
next request when it has the answer: one caller measures the latency of a request alone, many
callers the highest throughput.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from tfserving_client.command.load import arrivals

_TIMEOUT = 10.0  # seconds for an answer; a slower one counts as failed
_SEED = 1  # seed of the arrival times, the same for every setting


class Probe(NamedTuple):
    """The measurement of one rate for some seconds.

    Attributes:
        rate: requests per second, at random times (Poisson).
        p99: milliseconds from due to answered; a failure counts as infinite.
        failed: share of the requests.
        late: p99 of the milliseconds from due to sent; if it is large, the generator is the limit.
    """

    rate: float
    p99: float
    failed: float
    late: float


class Pace(NamedTuple):
    """The measurement of some callers for some seconds; all 0 without an answer.

    Attributes:
        rate: answers a second.
        p50: in milliseconds from sent to answered.
        p99: as p50.
        size: bytes of a request and its answer, on average.
    """

    rate: float
    p50: float
    p99: float
    size: float


class Request(NamedTuple):
    """A gRPC method's path, and the message."""

    method: str
    body: bytes


class Generator:
    """The process; it sends the same requests to one server after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def probe(self, address: str, rate: float, seconds: float) -> Probe:
        """Send requests to the server at this address, `host:port`, in an open loop.

        Raises:
            ChildProcessError: the process ended.
        """
        found: Probe = self._told(_probe, address, rate, seconds)
        return found

    def pace(self, address: str, callers: int, seconds: float) -> Pace:
        """Send requests to the server at this address in a closed loop.

        Raises:
            ChildProcessError: the process ended.
        """
        found: Pace = self._told(_pace, address, callers, seconds)
        return found

    def _told(self, loop: Callable[..., object], address: str, *arguments: float) -> Any:
        try:
            self._connection.send((loop, address, arguments))
            return self._connection.recv()
        except (BrokenPipeError, EOFError):
            raise ChildProcessError("the process that generates the load has ended") from None


@contextlib.contextmanager
def generator(requests: Sequence[Request]) -> Iterator[Generator]:
    """A generator of these requests, in turn, until the block ends."""
    spawned = multiprocessing.get_context("spawn")  # gRPC does not work after a fork
    here, there = spawned.Pipe()
    process = spawned.Process(target=_generate, args=(there, requests), daemon=True)
    process.start()
    there.close()
    try:
        yield Generator(here)
    finally:
        here.close()
        process.terminate()
        process.join()


def _generate(connection: Connection, requests: Sequence[Request]) -> None:
    import grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options += [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the main process has ended
        while True:
            loop, address, arguments = connection.recv()
            with grpc.insecure_channel(address, options) as channel:
                with contextlib.suppress(grpc.FutureTimeoutError):  # then each request fails
                    grpc.channel_ready_future(channel).result(_TIMEOUT)
                connection.send(loop(channel, requests, *arguments))


def _probe(channel: object, requests: Sequence[Request], rate: float, seconds: float) -> Probe:
    due = arrivals(rate, seconds, _SEED)
    if not due.size:  # at such a low rate
        due = np.zeros(1)
    methods = _methods(channel, requests)
    sent, done = np.zeros(len(due)), np.full(len(due), np.inf)
    left = threading.Semaphore(0)
    start = time.perf_counter()

    def finish(index: int, call: object) -> None:
        if call.code().value[0] == 0:  # type: ignore[attr-defined]
            done[index] = time.perf_counter() - start
        left.release()

    for index, (moment, request) in enumerate(zip(due, itertools.cycle(requests), strict=False)):
        if (wait := moment - (time.perf_counter() - start)) > 0:
            time.sleep(wait)
        sent[index] = time.perf_counter() - start
        call = methods[request.method].future(request.body, timeout=_TIMEOUT)
        call.add_done_callback(lambda call, index=index: finish(index, call))
    for _ in due:
        left.acquire()
    p99, late = (
        1e3 * float(np.percentile(times - due, 99, method="inverted_cdf")) for times in (done, sent)
    )
    return Probe(rate, p99, float(np.isinf(done).mean()), late)


def _pace(channel: object, requests: Sequence[Request], callers: int, seconds: float) -> Pace:
    methods = _methods(channel, requests)
    times: list[float] = []
    sizes: list[int] = []
    free = threading.Semaphore(callers)
    start = time.perf_counter()

    def finish(request: Request, sent: float, call: object) -> None:
        if call.code().value[0] == 0:  # type: ignore[attr-defined]
            times.append(time.perf_counter() - sent)
            sizes.append(len(request.body) + len(call.result()))  # type: ignore[attr-defined]
        free.release()

    for request in itertools.cycle(requests):
        free.acquire()
        sent = time.perf_counter()
        if sent - start >= seconds:
            free.release()
            break
        call = methods[request.method].future(request.body, timeout=_TIMEOUT)
        call.add_done_callback(functools.partial(finish, request, sent))
    for _ in range(callers):
        free.acquire()
    if not times:
        return Pace(0.0, 0.0, 0.0, 0.0)
    p50, p99 = 1e3 * np.percentile(times, (50, 99), method="inverted_cdf")
    rate = len(times) / (time.perf_counter() - start)
    return Pace(rate, float(p50), float(p99), float(np.mean(sizes)))


def _methods(channel: Any, requests: Sequence[Request]) -> Mapping[str, Any]:
    return {request.method: channel.unary_unary(request.method) for request in requests}
