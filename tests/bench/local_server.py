"""`python -m deploy.local` against Flask, the bare session and an earlier build, with its limits.

Serves the newest version under `models/mnist`, and does each thing by turns with the peer. `BEFORE`
names a checkout of the earlier build, with its environment; h2load (Debian's nghttp2-client) asks
both, as a client in Python would be busier than the server. Prints a table in Markdown; exit status
1 if a limit is missed. With `SERVING_BINARY` or `SERVING_IMAGE` it is the real server that is
measured.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import numpy as np
import requests
import tensorflow as tf
from numpy.typing import NDArray

from deploy.runner import START_TIMEOUT, Server, free_ports, serve
from tests.bench.paired import Row, Work, added_latency, tell, throughput
from tfserving_client import CallContext, DigitClient
from tfserving_client.call.exchange import Exchange
from tfserving_client.digits.images import prepare
from tfserving_client.grpc.wire import GrpcWire

MODEL = Path("models/mnist")
STARTS = 5
BATCH = 32
DEADLINE = 10  # seconds; a call without one is a rare thing
REQUESTS = 1_000
BEFORE = os.environ.get("BEFORE")
v1 = tf.compat.v1


def main() -> int:
    """Measure, and tell."""
    return tell(_rows())


def _rows() -> Iterator[Row]:
    yield _start()
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
        if BEFORE:
            earlier = stack.enter_context(_serve(Path(BEFORE)))
            for digits_each, limit in ((1, 1.6), (BATCH, 1.3)):
                for callers in (1, 16):
                    yield throughput(
                        f"answers/s over gRPC, {digits_each} digits each, {callers} at once:"
                        " this build against the one before",
                        _load(server, images[:digits_each], callers),
                        _load(earlier, images[:digits_each], callers),
                        limit,
                    )


def _start() -> Row:
    figure = f"from the start of the process to the first AVAILABLE, s (median of {STARTS})"
    builds = [None, Path(BEFORE)] if BEFORE else [None]
    rounds = [[_seconds_to_start(build) for build in builds] for _ in range(STARTS)]
    ours, *peer = (statistics.median(times) for times in zip(*rounds, strict=True))
    if peer:
        return Row(figure, f"{ours:.1f}", f"{peer[0]:.1f}", ours / peer[0], 0.6, at_most=True)
    return Row(figure, f"{ours:.1f}", "–", ours, 6, at_most=True)


def _seconds_to_start(build: Path | None) -> float:
    started = time.perf_counter()
    with _serve(build):
        return time.perf_counter() - started


@contextmanager
def _serve(build: Path | None) -> Iterator[Server]:
    """The server of another checkout; None: the one that is measured."""
    with ExitStack() as stack:
        if build:
            script = Path(stack.enter_context(tempfile.TemporaryDirectory()), "server")
            script.write_text(
                f'#!/bin/sh\ncd "{build.resolve()}" && exec .venv/bin/python -m deploy.local "$@"\n'
            )
            script.chmod(0o700)
            stack.enter_context(mock.patch.dict(os.environ, SERVING_BINARY=str(script)))
        yield stack.enter_context(serve(MODEL))


def _load(server: Server, images: NDArray[np.uint8], callers: int) -> Work:
    """Answers to `REQUESTS` requests on one connection, `callers` of them under way at a time."""
    exchange = _predict(server, images)
    frame = b"\0" + len(exchange.body).to_bytes(4) + exchange.body
    address = server.grpc_url.replace("grpc://", "http://")

    def work() -> int:
        with tempfile.NamedTemporaryFile() as body:
            body.write(frame)
            body.flush()
            ask = ["h2load", "--clients=1", f"--max-concurrent-streams={callers}"]
            ask += [f"--requests={REQUESTS}", f"--data={body.name}", "--header=te: trailers"]
            ask += ["--header=content-type: application/grpc", f"{address}{exchange.method}"]
            told = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        answered = re.search(r"(\d+) succeeded, 0 failed", told)
        assert answered, told
        return int(answered[1])

    return work


def _predict(server: Server, images: NDArray[np.uint8]) -> Exchange[Any]:
    context = CallContext(server.grpc_url, "mnist", signature="serving_default")
    return GrpcWire().predict(context, prepare(images).inputs)


@contextmanager
def _bare_call(server: Server, images: NDArray[np.uint8]) -> Iterator[Callable[[], object]]:
    """Bytes made before, and an answer that is not looked at."""
    exchange = _predict(server, images)
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
