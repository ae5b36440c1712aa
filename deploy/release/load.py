"""Load from a process of its own: an open loop of ready-made requests over gRPC.

Each request is sent when it is due, and its latency counts from then, so a server that stalls
cannot slow the questions down and so hide the stall.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from tfserving_client.command.load import arrivals

_TIMEOUT = 10.0  # seconds for an answer; what takes longer failed
_SEED = 1  # of the arrivals, the same for every setting


class Probe(NamedTuple):
    """What came of one rate for some seconds.

    Attributes:
        rate: requests a second that were due, at random (Poisson).
        p99: in milliseconds from when they were due; a failure counts as infinitely late.
        failed: share of the requests.
        late: p99 of the milliseconds from due to sent; if not small, the generator is the limit.
    """

    rate: float
    p99: float
    failed: float
    late: float


class Request(NamedTuple):
    """A gRPC method's path, and the message."""

    method: str
    body: bytes


class Generator:
    """The process; it asks one server after the other with the same requests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def probe(self, address: str, rate: float, seconds: float) -> Probe:
        """Put a load on the server at this address, `host:port`.

        Raises:
            ChildProcessError: the process ended.
        """
        try:
            self._connection.send((address, rate, seconds))
            found: Probe = self._connection.recv()
        except (BrokenPipeError, EOFError):
            raise ChildProcessError("the process that asks the server has ended") from None
        return found


@contextlib.contextmanager
def generator(requests: Sequence[Request]) -> Iterator[Generator]:
    """A generator of these requests, in turn, until the block ends."""
    spawned = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
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
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # whoever asks is gone
        while True:
            address, rate, seconds = connection.recv()
            with grpc.insecure_channel(address, options) as channel:
                with contextlib.suppress(grpc.FutureTimeoutError):  # then each request fails
                    grpc.channel_ready_future(channel).result(_TIMEOUT)
                connection.send(_probe(channel, requests, rate, seconds))


def _probe(channel: object, requests: Sequence[Request], rate: float, seconds: float) -> Probe:
    due = arrivals(rate, seconds, _SEED)
    if not due.size:  # of a rate so low
        due = np.zeros(1)
    methods = {
        request.method: channel.unary_unary(request.method)  # type: ignore[attr-defined]
        for request in requests
    }
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
