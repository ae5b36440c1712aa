"""The client against its peers, each pair by turns in one run, with the limit it is held to.

On two servers: `python -m deploy.local` (or with `SERVING_BINARY` or `SERVING_IMAGE` the real one),
on the newest version under `models/mnist`, whose own work takes most of the time; and a stub, which
answers at once with bytes recorded from the first, so that nothing counts but client and network.
The real server is slower than the one and faster than the other.

Prints a table in Markdown for each; exit status 1 if a limit is missed. A ratio is the median of
the rounds' ratios. `python -m tests.bench.client digits together` measures these sections alone.
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
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import requests
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from deploy.runner import serve
from tests.bench import canned, steps, tabular
from tests.bench.paired import ROUNDS, Row, Work, added_latency, milliseconds, tell, throughput
from tfserving_client import AsyncDigitClient, CallContext, DigitClient, ServingClient
from tfserving_client.call.exchange import Exchange
from tfserving_client.digits.images import prepare
from tfserving_client.digits.verbs import packed, ready
from tfserving_client.grpc.wire import GrpcWire
from tfserving_client.rest.wire import RestWire
from tfserving_client.results import Prediction, Signature
from tfserving_client.serving.rows import Rows
from tfserving_client.tensors.conversion import conformed

CALLERS = 32
EACH = 960  # images that they ask for in one go
UNLIMITED = [("grpc.max_receive_message_length", -1)]
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


class Urls(NamedTuple):
    """Where the digits and the columns are answered."""

    grpc: str
    rest: str
    tables: str  # over gRPC


def main(names: Sequence[str]) -> int:
    """Measure, and tell."""
    if unknown := set(names) - set(SECTIONS):
        print(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    images = _images()

    def measure(urls: Urls) -> int:
        return tell(chain.from_iterable(SECTIONS[n](urls, images) for n in names or SECTIONS))

    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder, tabular.NAME)
        tabular.save(tables)
        with serve(Path("models/mnist")) as digits, serve(tables, name=tabular.NAME) as columns:
            urls = Urls(digits.grpc_url, digits.rest_url, columns.grpc_url)
            print(f"On `{digits.command.partition(' --')[0]}`:\n", flush=True)
            missed = measure(urls)
            answers = _recorded(urls, images)
    try:
        with canned.serve(answers) as address:
            print("\nOn the stub:\n", flush=True)
            grpc_url = f"grpc://{address}"
            return measure(Urls(grpc_url, f"http://{address}", grpc_url)) or missed
    except canned.NotBuilt as error:
        print(f"nothing was measured on the stub: {error}", file=sys.stderr)
        return 1


def _images() -> NDArray[np.uint8]:
    """A thousand digits (1000, 28, 28), the same hundred over and over."""
    newest = max(Path("models/mnist").glob("[0-9]*"), key=lambda path: int(path.name))
    with np.load(newest / "assets.extra" / "golden.npz", allow_pickle=False) as golden:
        return np.resize(golden["images"], (1_000, 28, 28))


def _start(urls: Urls, images: NDArray[np.uint8]) -> Iterator[Row]:
    for url in (urls.grpc, urls.rest):
        scheme = "gRPC" if url == urls.grpc else "REST"
        yield from _start_up(
            f"import and construction, {scheme}, against `{LIBRARIES}`",
            CONSTRUCTION.format(url=url),
            LIBRARIES,
            1.15,
        )
    body = base64.b64encode(_exchange(urls, images[:1]).body)
    yield from _start_up(
        "from import to the first answer, gRPC, against a bare channel",
        FIRST_CALL.format(url=urls.grpc),
        BARE_CALL.format(body=body, address=_address(urls.grpc)),
        1.25,
    )


def _digits(urls: Urls, images: NDArray[np.uint8]) -> Iterator[Row]:
    with DigitClient(urls.grpc) as digits, _official(urls.grpc) as official:
        for size in (1, 32, 256, 1_000):
            yield throughput(
                f"gRPC images/s, {_at_once(size)}, against a bare channel and a body made before",
                partial(_classify, digits, images[:size]),
                _bare_channel(_exchange(urls, images[:size]), size),
                0.9,
            )
        for size, limit in ((1, 1.5), (1_000, 5.4)):
            yield throughput(
                f"gRPC images/s, {_at_once(size)}, against tensorflow-serving-api",
                partial(_classify, digits, images[:size]),
                partial(official, images[:size]),
                limit,
            )


def _together(urls: Urls, images: NDArray[np.uint8]) -> Iterator[Row]:
    with (
        _official(urls.grpc) as official,
        ThreadPoolExecutor(CALLERS) as pool,
        DigitClient(urls.grpc) as digits,
        DigitClient(urls.grpc, coalesce=True) as together,
        _coroutines(urls.grpc, images) as (_, in_coroutines),
    ):
        in_threads = partial(_in_threads, pool, images)
        yield throughput(
            f"gRPC images/s, {CALLERS} threads of one digit each, coalesced, "
            "against the same with tensorflow-serving-api",
            partial(in_threads, partial(_classify, together)),
            partial(in_threads, official),
            8,
        )
        yield throughput(
            f"gRPC images/s, {CALLERS} coroutines of one digit each, coalesced, "
            "against threads with tensorflow-serving-api",
            in_coroutines,
            partial(in_threads, official),
            12,
        )
        yield added_latency(
            "latency of a single caller, coalescing against not",
            partial(_classify, together, images[:1]),
            partial(_classify, digits, images[:1]),
            0.3,
        )


def _columns(urls: Urls, _: NDArray[np.uint8]) -> Iterator[Row]:
    columns = tabular.columns(256)
    context = CallContext(urls.tables, tabular.NAME, signature=tabular.SIGNATURE)
    bare = _bare_channel(GrpcWire().predict(context, columns), 256)
    with ServingClient(urls.tables, model=tabular.NAME) as serving:
        for held, inputs in (("arrays", columns), ("lists", tabular.lists(columns))):
            figure = f"gRPC rows/s, 256 rows of 8 inputs at once from {held}, against"
            ours = partial(_predict, serving, inputs)
            with tabular.official(_address(urls.tables), inputs) as official:
                yield throughput(f"{figure} tensorflow-serving-api", ours, official, 3)
            yield throughput(f"{figure} a bare channel and a body made before", ours, bare, None)


def _steps(urls: Urls, images: NDArray[np.uint8]) -> Iterator[Row]:
    """Where the time of these goes."""
    with DigitClient(urls.grpc) as digits, DigitClient(urls.rest) as by_rest:
        for size in (1, 32, 1_000):
            some, exchange = images[:size], _exchange(urls, images[:size])
            yield from steps.of_a_call(
                f"gRPC, {_at_once(size)}",
                exchange.context,
                partial(ready, some),
                partial(_classify, digits, some),
                _bare_channel(exchange, size),
            )
        for size in (32, 1_000):
            some = images[:size]
            yield from steps.of_a_call(
                f"REST, {_at_once(size)}",
                CallContext(urls.rest, "mnist", signature="packed"),
                partial(_packed_rows, some),
                partial(_classify, by_rest, some),
                _http_client(urls.rest, some),
            )
    yield from _steps_of_columns(urls)
    with (
        ThreadPoolExecutor(CALLERS) as pool,
        DigitClient(urls.grpc, coalesce=True) as together,
        _coroutines(urls.grpc, images) as (client, in_coroutines),
    ):
        in_threads = partial(_in_threads, pool, images, partial(_classify, together))
        yield from steps.of_callers(f"{CALLERS} threads", together, in_threads)
        yield from steps.of_callers(f"{CALLERS} coroutines", client, in_coroutines)


def _steps_of_columns(urls: Urls) -> Iterator[Row]:
    columns = tabular.columns(256)
    context = CallContext(urls.tables, tabular.NAME, signature=tabular.SIGNATURE)
    bare = _bare_channel(GrpcWire().predict(context, columns), 256)
    with ServingClient(urls.tables, model=tabular.NAME) as serving:
        declared = serving.metadata().signatures[tabular.SIGNATURE]
        for held, inputs in (("arrays", columns), ("lists", tabular.lists(columns))):
            yield from steps.of_a_call(
                f"gRPC, 256 rows of 8 inputs from {held}",
                context,
                partial(_conformed, declared, inputs),
                partial(_predict, serving, inputs),
                bare,
            )


def _conformed(declared: Signature, inputs: tabular.Columns | tabular.Lists) -> Rows:
    tensors = conformed(tabular.SIGNATURE, declared, inputs)
    return Rows(tabular.SIGNATURE, tensors, 256, declared=declared)


def _rest(urls: Urls, images: NDArray[np.uint8]) -> Iterator[Row]:
    with DigitClient(urls.rest) as digits:
        yield throughput(
            "REST images/s, 32 at once, against http.client and a body made before",
            partial(_classify, digits, images[:32]),
            _http_client(urls.rest, images[:32]),
            0.8,
        )
        yield throughput(
            "REST images/s, 1,000 at once, against requests and json.dumps of floats",
            partial(_classify, digits, images),
            partial(_requests, requests.Session(), urls.rest, images),
            41,
        )
    is_real = "SERVING_BINARY" in os.environ or "SERVING_IMAGE" in os.environ
    for size in (64, 128, 256, 1_000):
        with nullcontext(urls.rest) if is_real else _libevent(size) as url:
            yield _step(size, images, url)


def _memory(urls: Urls, _: NDArray[np.uint8]) -> Iterator[Row]:
    grown = float(_python(MILLION.format(url=urls.grpc)))
    yield Row(
        "growth of memory from 10,000 images to 1,000,000, MB", f"{grown:.1f}", "–", grown, 5, True
    )


SECTIONS: dict[str, Callable[[Urls, NDArray[np.uint8]], Iterator[Row]]] = {
    "start": _start,
    "digits": _digits,
    "together": _together,
    "columns": _columns,
    "rest": _rest,
    "memory": _memory,
    "steps": _steps,
}


def _recorded(urls: Urls, images: NDArray[np.uint8]) -> list[canned.Answer]:
    """The answers to everything that is asked here, those to larger requests first."""
    wire, context = GrpcWire(), CallContext(urls.tables, tabular.NAME, signature=tabular.SIGNATURE)
    metadata = wire.metadata(context)
    predict = wire.predict(context, tabular.columns(256))
    answers = [
        canned.Answer(b"GetModelMetadata", 0, _asked(urls.tables, metadata)),
        canned.Answer(tabular.NAME.encode(), 0, _asked(urls.tables, predict)),
        canned.Answer(b'{"signature_name": "predict_images"', 0, _posted(urls, _floats(images))),
        canned.Answer(b'{"instances":', 0, _posted(urls, _integers(images[:32]))),
    ]
    for size in (1_000, 32):
        body = _packed(images[:size])
        answers.append(canned.Answer(b'{"signature_name":"packed"', len(body), _posted(urls, body)))
    for size in (1_000, *range(256, 0, -1)):
        for pixels in (images[:size], (images[:size] / 255).astype(np.float32)):
            exchange = _exchange(urls, pixels)
            key = str(exchange.context.signature).encode()
            answers.append(canned.Answer(key, pixels.nbytes, _asked(urls.grpc, exchange)))
    return answers


def _asked(url: str, exchange: Exchange[Any]) -> bytes:
    with grpc.insecure_channel(_address(url)) as channel:
        answer: bytes = channel.unary_unary(exchange.method)(exchange.body)
        return answer


def _posted(urls: Urls, body: bytes) -> bytes:
    answer = requests.post(f"{urls.rest}/v1/models/mnist:predict", data=body, timeout=60)
    answer.raise_for_status()
    return answer.content


def _address(url: str) -> str:
    return url.partition("://")[2]


def _at_once(size: int) -> str:
    return "one digit a call" if size == 1 else f"{size:,} at once"


def _classify(digits: DigitClient, images: NDArray[np.uint8]) -> int:
    return len(digits.classify(images))


def _predict(serving: ServingClient, inputs: tabular.Columns | tabular.Lists) -> int:
    return len(serving.predict(inputs).outputs["total"])


def _exchange(urls: Urls, images: NDArray[Any]) -> Exchange[Prediction]:
    batch = prepare(images)
    context = CallContext(urls.grpc, "mnist", signature=batch.signature)
    return GrpcWire().predict(context, batch.inputs)


def _bare_channel(exchange: Exchange[Prediction], size: int) -> Work:
    """A channel that sends bytes made before, and does not look at the answer."""
    channel = grpc.insecure_channel(_address(exchange.context.endpoint), UNLIMITED)
    call = channel.unary_unary(exchange.method)

    def work() -> int:
        call(exchange.body, timeout=10)
        return size

    return work


@contextmanager
def _official(url: str) -> Iterator[Callable[[NDArray[np.uint8]], int]]:
    """As TensorFlow Serving's mnist_client.py does it."""
    with grpc.insecure_channel(_address(url), UNLIMITED) as channel:
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
def _coroutines(url: str, images: NDArray[np.uint8]) -> Iterator[tuple[AsyncDigitClient, Work]]:
    """The same in one event loop, with a client that lives as long, as in a service."""
    digits = AsyncDigitClient(url, coalesce=True)

    async def call(caller: int) -> int:
        answers = [await digits.classify(images[i : i + 1]) for i in range(caller, EACH, CALLERS)]
        return len(answers)

    async def all_calls() -> int:
        return sum(await asyncio.gather(*map(call, range(CALLERS))))

    with asyncio.Runner() as runner:
        try:
            yield digits, lambda: runner.run(all_calls())
        finally:
            runner.run(digits.close())


def _http_client(url: str, images: NDArray[np.uint8]) -> Work:
    connection = http.client.HTTPConnection(_address(url))
    body = _integers(images)

    def work() -> int:
        connection.request("POST", "/v1/models/mnist:predict", body)
        return len(json.loads(connection.getresponse().read())["predictions"])

    return work


def _requests(session: requests.Session, url: str, images: NDArray[np.uint8]) -> int:
    answer = session.post(f"{url}/v1/models/mnist:predict", data=_floats(images))
    return len(answer.json()["predictions"])


def _integers(images: NDArray[np.uint8]) -> bytes:
    return json.dumps({"instances": images.tolist()}, separators=(",", ":")).encode()


def _floats(images: NDArray[np.uint8]) -> bytes:
    pixels = (images.reshape(-1, 784) / 255).tolist()
    return json.dumps({"signature_name": "predict_images", "instances": pixels}).encode()


def _packed_rows(images: NDArray[np.uint8]) -> Rows:
    rows = packed(ready(images))
    assert rows is not None
    return rows


def _packed(images: NDArray[np.uint8]) -> bytes:
    rows = _packed_rows(images)
    context = CallContext("http://", "mnist", signature=rows.signature)
    return RestWire().predict(context, rows.inputs).body


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
    # Without bytecode, as some shells have it, compiling would take most of the time.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
