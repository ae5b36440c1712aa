"""`python -m deploy.local` against Flask and against the bare session, by turns, with its limits.

Serves the newest version under `models/mnist`. Prints a table in Markdown; exit status 1 if a
limit is missed. With `SERVING_BINARY` or `SERVING_IMAGE` it is the real server that is measured.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import requests
import tensorflow as tf
from numpy.typing import NDArray

from deploy.runner import START_TIMEOUT, Server, free_ports, serve
from tests.bench.paired import Row, Work, added_latency, tell, throughput
from tfserving_client import CallContext, DigitClient
from tfserving_client.digits.images import prepare
from tfserving_client.grpc.wire import GrpcWire

MODEL = Path("models/mnist")
STARTS = 5
BATCH = 32
DEADLINE = 10  # seconds; a call without one is a rare thing
v1 = tf.compat.v1


def main() -> int:
    """Measure, and tell."""
    return tell(_rows())


def _rows() -> Iterator[Row]:
    started = statistics.median(_seconds_to_start() for _ in range(STARTS))
    figure = f"from the start of the process to the first AVAILABLE, s (median of {STARTS})"
    yield Row(figure, f"{started:.1f}", "–", started, 6, at_most=True)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 28, 28), np.uint8)
    with ExitStack() as stack:
        server = stack.enter_context(serve(MODEL))
        yield added_latency(
            "a bare gRPC call of one digit against `Session.run` in this process",
            stack.enter_context(_bare_call(server, images[:1])),
            stack.enter_context(_session_run(images[:1])),
            1,
        )
        digits = stack.enter_context(DigitClient(server.grpc_url))
        yield throughput(
            f"images/s, {BATCH} at once: DigitClient over gRPC against requests, JSON, Flask and"
            " `model.predict`",
            lambda: len(digits.classify(images)),
            stack.enter_context(_flask(images)),
            10,
        )


def _seconds_to_start() -> float:
    started = time.perf_counter()
    with serve(MODEL):
        return time.perf_counter() - started


@contextmanager
def _bare_call(server: Server, images: NDArray[np.uint8]) -> Iterator[Callable[[], object]]:
    """Bytes made before, and an answer that is not looked at."""
    context = CallContext(server.grpc_url, "mnist", signature="serving_default")
    exchange = GrpcWire().predict(context, prepare(images).inputs)
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        call = channel.unary_unary(exchange.method)
        yield lambda: call(exchange.body, timeout=DEADLINE)


@contextmanager
def _session_run(images: NDArray[np.uint8]) -> Iterator[Callable[[], object]]:
    newest = max(MODEL.glob("[0-9]*"), key=lambda folder: int(folder.name))
    with v1.Session(graph=tf.Graph()) as session:
        loaded = v1.saved_model.loader.load(session, ["serve"], str(newest))
        signature = loaded.signature_def["serving_default"]
        feeds = {signature.inputs["images"].name: images}
        fetches = [output.name for output in signature.outputs.values()]
        yield lambda: session.run(fetches, feeds)


@contextmanager
def _flask(images: NDArray[np.uint8]) -> Iterator[Work]:
    """`tests.bench.flask_service`, asked as people ask it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/predict"
    command = [sys.executable, "-m", "tests.bench.flask_service", str(port)]
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    session = requests.Session()

    def work() -> int:
        answer = session.post(url, json={"instances": images.tolist()})
        return len(answer.json()["predictions"])

    try:
        _wait_until_answered(work)
        yield work
    finally:
        service.terminate()
        service.wait()


def _wait_until_answered(work: Work) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            work()
            return
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
