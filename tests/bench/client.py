"""The client against its peers, each pair by turns in one run, with the limit it is held to.

Against `python -m deploy.local`, or with `SERVING_BINARY` or `SERVING_IMAGE` the real server, on
the newest version under `models/mnist`. Prints a table in Markdown; exit status 1 if a limit is
missed. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import requests
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from deploy.runner import Server, serve
from tests.bench.paired import ROUNDS, Row, Work, added_latency, milliseconds, tell, throughput
from tfserving_client import AsyncDigitClient, CallContext, DigitClient
from tfserving_client.call.exchange import Exchange
from tfserving_client.digits.images import prepare
from tfserving_client.grpc.wire import GrpcWire
from tfserving_client.results import Prediction

CALLERS = 32
EACH = 960  # images that they ask for in one go
LIBRARIES = "import grpc, numpy, google.protobuf"
BARE_CALL = (
    LIBRARIES
    + """
body = __import__('base64').b64decode({body!r})
with grpc.insecure_channel({address!r}) as channel:
    channel.unary_unary('/tensorflow.serving.PredictionService/Predict')(body)"""
)
FIRST_CALL = """from tfserving_client import DigitClient; import numpy
with DigitClient({url!r}) as digits: digits.classify(numpy.zeros((28, 28), numpy.uint8))"""
CONSTRUCTION = "from tfserving_client import DigitClient; DigitClient('{url}')"
# The most memory that this process ever used, in MB. (getrusage would tell its parent's, too.)
PEAK = "next(int(row.split()[1]) for row in open('/proc/self/status') if row[:5] == 'VmHWM') / 1024"
MILLION = f"""
import numpy
from tfserving_client import DigitClient
digits = numpy.random.default_rng(0).integers(0, 256, (1000, 28, 28), numpy.uint8)
images = (digits[i % 1000] for i in range(1_000_000))
with DigitClient('{{url}}') as client:
    for done, _ in enumerate(client.classify_many(images), 1):
        if done == 10_000:
            before = {PEAK}
print({PEAK} - before)
"""


def main() -> int:
    """Measure, and tell."""
    images = np.random.default_rng(0).integers(0, 256, (1_000, 28, 28), np.uint8)
    with serve(Path("models/mnist")) as server:
        return tell(_rows(server, images))


def _rows(server: Server, images: NDArray[np.uint8]) -> Iterator[Row]:
    for url in (server.grpc_url, server.rest_url):
        construction = CONSTRUCTION.format(url=url)
        scheme = "gRPC" if url == server.grpc_url else "REST"
        yield from _start_up(
            f"import and construction, {scheme}, against `{LIBRARIES}`",
            construction,
            LIBRARIES,
            1.15,
        )
    exchange = _exchange(server, images[:1])
    address = server.grpc_url.removeprefix("grpc://")
    yield from _start_up(
        "from import to the first answer, gRPC, against a bare channel",
        FIRST_CALL.format(url=server.grpc_url),
        BARE_CALL.format(body=base64.b64encode(exchange.body), address=address),
        None,
    )
    with DigitClient(server.grpc_url) as digits, _official(server) as official:
        for size in (32, 256, 1_000):
            yield throughput(
                f"gRPC images/s, {size:,} at once, against a bare channel",
                partial(_classify, digits, images[:size]),
                _bare_channel(server, images[:size]),
                0.9,
            )
        for size, limit in ((1, 1.7), (1_000, 3.0)):
            yield throughput(
                f"gRPC images/s, {size:,} at once, against tensorflow-serving-api",
                partial(_classify, digits, images[:size]),
                partial(official, images[:size]),
                limit,
            )
        with ThreadPoolExecutor(CALLERS) as pool:
            in_threads = partial(_in_threads, pool, images)
            with DigitClient(server.grpc_url, coalesce=True) as together:
                yield throughput(
                    f"{CALLERS} threads of one digit each, coalesced, "
                    "against tensorflow-serving-api",
                    partial(in_threads, partial(_classify, together)),
                    partial(in_threads, official),
                    10,
                )
                yield added_latency(
                    "a lone caller's latency, coalescing against not",
                    partial(_classify, together, images[:1]),
                    partial(_classify, digits, images[:1]),
                    0.3,
                )
            with _coroutines(server.grpc_url, images) as in_coroutines:
                yield throughput(
                    f"{CALLERS} coroutines of one digit each, coalesced, "
                    "against the same with threads",
                    in_coroutines,
                    partial(in_threads, official),
                    10,
                )
    with DigitClient(server.rest_url) as digits:
        yield throughput(
            "REST images/s, 32 at once, against http.client and a body made before",
            partial(_classify, digits, images[:32]),
            _http_client(server, images[:32]),
            0.8,
        )
        yield throughput(
            "REST images/s, 1,000 at once, against requests and json.dumps of floats",
            partial(_classify, digits, images),
            partial(_requests, requests.Session(), server, images / 255),
            10,
        )
    is_real = "SERVING_BINARY" in os.environ or "SERVING_IMAGE" in os.environ
    for size in (64, 128, 256, 1_000):
        with nullcontext(server.rest_url) if is_real else _libevent(size) as url:
            yield _step(size, images, url)
    grown = float(_python(MILLION.format(url=server.grpc_url)))
    yield Row(
        "growth of memory from 10,000 images to 1,000,000, MB", f"{grown:.1f}", "–", grown, 5, True
    )


def _classify(digits: DigitClient, images: NDArray[np.uint8]) -> int:
    return len(digits.classify(images))


def _exchange(server: Server, images: NDArray[np.uint8]) -> Exchange[Prediction]:
    context = CallContext(server.grpc_url, "mnist", signature="serving_default")
    return GrpcWire().predict(context, prepare(images).inputs)


def _bare_channel(server: Server, images: NDArray[np.uint8]) -> Work:
    """A channel that sends bytes made before, and does not look at the answer."""
    exchange = _exchange(server, images)
    channel = grpc.insecure_channel(
        server.grpc_url.removeprefix("grpc://"), [("grpc.max_receive_message_length", -1)]
    )
    call = channel.unary_unary(exchange.method)

    def work() -> int:
        call(exchange.body, timeout=10)
        return len(images)

    return work


@contextmanager
def _official(server: Server) -> Iterator[Callable[[NDArray[np.uint8]], int]]:
    """As TensorFlow Serving's mnist_client.py does it."""
    address = server.grpc_url.removeprefix("grpc://")
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def classify(images: NDArray[np.uint8]) -> int:
            pixels = np.multiply(images.reshape(-1, 784).astype(np.float32), 1.0 / 255.0)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "mnist"
            request.model_spec.signature_name = "predict_images"
            request.inputs["images"].CopyFrom(tf.make_tensor_proto(pixels, shape=pixels.shape))
            result = stub.Predict.future(request, 5.0).result()
            response = np.array(result.outputs["scores"].float_val)
            return len(np.argmax(response.reshape(-1, 10), axis=1))

        yield classify


def _in_threads(
    pool: ThreadPoolExecutor,
    images: NDArray[np.uint8],
    classify: Callable[[NDArray[np.uint8]], int],
) -> int:
    def call(caller: int) -> int:
        return sum(classify(images[i : i + 1]) for i in range(caller, EACH, CALLERS))

    return sum(pool.map(call, range(CALLERS)))


@contextmanager
def _coroutines(url: str, images: NDArray[np.uint8]) -> Iterator[Work]:
    """The same in one event loop, with a client that lives as long, as in a service."""
    digits = AsyncDigitClient(url, coalesce=True)

    async def call(caller: int) -> int:
        answers = [await digits.classify(images[i : i + 1]) for i in range(caller, EACH, CALLERS)]
        return len(answers)

    async def all_calls() -> int:
        return sum(await asyncio.gather(*map(call, range(CALLERS))))

    with asyncio.Runner() as runner:
        try:
            yield lambda: runner.run(all_calls())
        finally:
            runner.run(digits.close())


def _http_client(server: Server, images: NDArray[np.uint8]) -> Work:
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"))
    body = json.dumps({"instances": images.tolist()}, separators=(",", ":")).encode()

    def work() -> int:
        connection.request("POST", "/v1/models/mnist:predict", body)
        return len(json.loads(connection.getresponse().read())["predictions"])

    return work


def _requests(session: requests.Session, server: Server, images: NDArray[np.float64]) -> int:
    body = json.dumps(
        {"signature_name": "predict_images", "instances": images.reshape(-1, 784).tolist()}
    )
    answer = session.post(f"{server.rest_url}/v1/models/mnist:predict", data=body)
    return len(answer.json()["predictions"])


def _step(size: int, images: NDArray[np.uint8], url: str) -> Row:
    """An answer that waits for an acknowledgement takes 40 ms more than its work."""
    with DigitClient(url) as digits:
        taken = statistics.median(
            milliseconds(partial(_classify, digits, images[:size])) for _ in range(21)
        )
    figure = f"REST latency, {size:,} at once, from a server that writes as libevent does, ms"
    return Row(figure, f"{taken:.1f}", "–", taken, 40, at_most=True)


@contextmanager
def _libevent(size: int) -> Iterator[str]:
    """The real server's way to write: 16 KiB at a time, with Nagle's algorithm on."""
    outputs = {"probabilities": [[0.1] * 10] * size, "digits": [0] * size}
    body = json.dumps({"outputs": outputs}, indent=4).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def run(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            while headers := b"".join(iter(lines.readline, b"\r\n")) if lines.peek(1) else b"":
                lines.read(int(headers.lower().split(b"content-length:")[1].split()[0]))
                for start in range(0, len(answer), 1 << 14):
                    connection.sendall(answer[start : start + (1 << 14)])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _start_up(figure: str, ours: str, peer: str, limit: float | None) -> Iterator[Row]:
    """Time and memory of two programs, each in processes of its own."""
    timed = "import time\ns = time.perf_counter()\n{}\nt = 1_000 * (time.perf_counter() - s)\n"
    tell = f"print(t, {PEAK})"
    figures: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(2 * ROUNDS):
        for code, found in zip((ours, peer), figures, strict=True):
            found.append([float(each) for each in _python(timed.format(code) + tell).split()])
    for i, unit in enumerate(("ms", "MB")):
        mine, theirs = ([each[i] for each in found] for found in figures)
        yield Row(
            f"{figure}, {unit}",
            f"{statistics.median(mine):.0f}",
            f"{statistics.median(theirs):.0f}",
            statistics.median(a / b for a, b in zip(mine, theirs, strict=True)),
            limit,
            at_most=True,
        )


def _python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
