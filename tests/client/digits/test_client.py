"""The verbs, over both protocols, with threads and with asyncio, against scripted servers."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    predict_pb2,
)

from tests.client.conftest import (
    PACKED_IS_MISSING,
    Digits,
    ScriptedGrpc,
    ScriptedHttp,
    Server,
    Shell,
    Start,
    grpc_status,
)
from tfserving_client import (
    AccessDenied,
    BadResponse,
    CallError,
    DeadlineExceeded,
    DigitClient,
    InvalidInput,
    NotFound,
    Overloaded,
    Policy,
    Rejected,
    ServerFailed,
    Unreachable,
)
from tfserving_client.grpc import wire as grpc_wire
from tfserving_client.rest import wire as rest_wire

IMAGES = np.arange(2 * 784, dtype=np.int64).reshape(2, 28, 28) % 256
STATUS = b"""{"model_version_status": [
    {"version": "5", "state": "AVAILABLE", "status": {"error_message": ""}}]}"""
ONCE = Policy(attempts=1, timeout=30)
ROWS = [[0.0] * 9 + [1.0], [0.75] + [0.0] * 8 + [0.25]]


def _grpc_prediction(*, content: bool = False) -> bytes:
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 7
    probabilities, digits = response.outputs["probabilities"], response.outputs["digits"]
    probabilities.dtype, digits.dtype = 1, 9
    for size in (2, 10):
        probabilities.tensor_shape.dim.add(size=size)
    digits.tensor_shape.dim.add(size=2)
    if content:
        probabilities.tensor_content = np.array(ROWS, "<f4").tobytes()
        digits.tensor_content = np.array([9, 0], "<i8").tobytes()
    else:
        probabilities.float_val.extend(np.ravel(ROWS))
        digits.int64_val.extend([9, 0])
    return bytes(response.SerializeToString())


@pytest.mark.parametrize("content", [False, True])
def test_classify_over_grpc(shell: Shell, grpc_server: ScriptedGrpc, content: bool) -> None:
    grpc_server.behaviour = lambda *_: _grpc_prediction(content=content)
    with shell(grpc_server.url) as digits:
        answer = digits.classify(IMAGES, version=7)
    assert (answer.digits.tolist(), answer.probabilities.tolist()) == ([9, 0], ROWS)
    assert answer.digits.dtype == np.int64
    assert answer.probabilities.dtype == np.float32
    assert (answer.version, len(answer)) == (7, 2)

    ((method, body),) = grpc_server.calls
    assert method == "/tensorflow.serving.PredictionService/Predict"
    request = predict_pb2.PredictRequest.FromString(body)
    assert request.model_spec.name == "mnist"
    assert request.model_spec.signature_name == "serving_default"
    assert request.model_spec.version.value == 7
    tensor = request.inputs["images"]
    assert (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim]) == (4, [2, 28, 28])
    assert tensor.tensor_content == IMAGES.astype(np.uint8).tobytes()


def test_classify_over_rest(shell: Shell, http_server: ScriptedHttp) -> None:
    outputs = {"probabilities": ROWS, "digits": [9, 0]}
    http_server.say(json.dumps({"outputs": outputs}).encode())
    with shell(http_server.url) as digits:
        answer = digits.classify(IMAGES, label="a/b c")
    assert (answer.digits.tolist(), answer.probabilities.tolist()) == ([9, 0], ROWS)
    assert answer.digits.dtype == np.int64
    assert answer.probabilities.dtype == np.float32
    assert answer.version is None
    ((verb, path, body),) = http_server.calls
    assert (verb, path) == ("POST", "/v1/models/mnist/labels/a%2Fb%20c:predict")
    encoded = [base64.b64encode(image.tobytes()).decode() for image in IMAGES.astype(np.uint8)]
    packed = [{"b64": image} for image in encoded]
    assert json.loads(body) == {"signature_name": "packed", "inputs": packed}


def test_rest_asks_a_model_without_packed_in_numbers_from_then_on(
    shell: Shell, http_server: ScriptedHttp
) -> None:
    prediction = json.dumps({"outputs": {"probabilities": ROWS, "digits": [9, 0]}}).encode()
    http_server.behaviour = lambda _, body: (
        (400, PACKED_IS_MISSING) if b"packed" in body else (200, prediction)
    )
    with shell(http_server.url, policy=ONCE) as digits:
        for _ in range(2):
            assert digits.classify(IMAGES).digits.tolist() == [9, 0]
    asked = [json.loads(body) for _, _, body in http_server.calls]
    numbers = {"signature_name": "serving_default", "inputs": IMAGES.tolist()}
    assert asked[0]["signature_name"] == "packed"
    assert asked[1:] == [numbers, numbers]


def test_floats_have_one_output_whose_best_is_the_digit(
    shell: Shell, http_server: ScriptedHttp
) -> None:
    http_server.body = json.dumps({"outputs": ROWS}).encode()
    with shell(http_server.url) as digits:
        answer = digits.classify(IMAGES / 255, version=3)
    assert (answer.digits.tolist(), answer.version) == ([9, 0], 3)


# What each status means to a caller, protocol by protocol.
KINDS: dict[int | grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.UNKNOWN: ServerFailed,
    grpc.StatusCode.INVALID_ARGUMENT: Rejected,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: ServerFailed,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: Rejected,
    grpc.StatusCode.ABORTED: ServerFailed,
    grpc.StatusCode.OUT_OF_RANGE: Rejected,
    grpc.StatusCode.UNIMPLEMENTED: BadResponse,
    grpc.StatusCode.INTERNAL: ServerFailed,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DATA_LOSS: ServerFailed,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    400: Rejected, 401: AccessDenied, 403: AccessDenied, 404: NotFound, 408: DeadlineExceeded,
    409: ServerFailed, 413: Rejected, 429: Overloaded, 499: ServerFailed, 500: ServerFailed,
    501: Rejected, 502: Unreachable, 503: Unreachable, 504: DeadlineExceeded,
}  # fmt: skip
# Section "status code mapping" of the server's REST interface: all it can answer with.
SERVER_STATUSES = {400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504}


def test_every_status_is_mapped() -> None:
    grpcs = {status for status in KINDS if isinstance(status, grpc.StatusCode)}
    assert grpcs == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert set(grpc_wire.ERRORS) == {status.name for status in grpcs}
    assert set(rest_wire.ERRORS) == set(KINDS) - grpcs >= SERVER_STATUSES


def _fail(server: Server, status: int | grpc.StatusCode) -> None:
    if isinstance(server, ScriptedHttp):
        assert isinstance(status, int)
        server.say(b'{"error": "the server\'s words"}', status)
        return

    def fail(_: str, __: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(status, "the server's words")
        raise AssertionError

    server.behaviour = fail


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("http" if isinstance(status, int) else "grpc", status) for status in KINDS],
    indirect=["scheme"],
)
def test_failures_have_their_class_the_servers_words_and_what_was_asked_of_whom(
    shell: Shell, server: Server, status: int | grpc.StatusCode
) -> None:
    _fail(server, status)
    with shell(server.url, model="letters", policy=ONCE) as digits:
        for options, words in (({"version": 3}, "version 3"), ({"label": "new"}, "label 'new'")):
            with pytest.raises(CallError) as failure:
                digits.classify(IMAGES / 255, **options)
            error = failure.value
            assert type(error) is KINDS[status]
            number = status if isinstance(status, int) else status.name
            for part in (
                "model 'letters'", words, "signature 'predict_images'", server.url, str(number),
                "the server's words", KINDS[status].advice,
            ):  # fmt: skip
                assert part in str(error)
        for verb in (digits.status, digits.metadata):
            with pytest.raises(KINDS[status], match="the server's words"):
                verb()
    assert len(server.calls) == 4


@pytest.mark.parametrize("status", [200, 404])
def test_another_program_on_the_port_is_a_bad_response(
    shell: Shell, http_server: ScriptedHttp, status: int
) -> None:
    http_server.status, http_server.body = status, b"<html>a shop</html>"
    with shell(http_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b'{"outputs": null}', b'{"outputs": {}}', b'{"outputs": [[1, 2]]}',
     b'{"outputs": {"probabilities": [[0.1], [0.2, 0.3]]}}', b'{"outputs"', b"[" * 200_000,
     *(json.dumps({"outputs": {"probabilities": p, "digits": d}}).encode() for p, d in [
         ([["a"] * 10] * 2, [1, 2]), ([[None] * 10] * 2, [1, 2]),
         ([[float("nan")] * 10] * 2, [1, 2]),
         ([[7.0] * 10] * 2, [1, 2]), ([[True] * 10] * 2, [1, 2]), ([[10**400] * 10] * 2, [1, 2]),
         (ROWS, [1]), (ROWS, [[1], [2]]), (ROWS, [1, 99]), (ROWS, [1.7, 2]), (ROWS, ["x", 1]),
         (ROWS, None)])],
)  # fmt: skip
def test_unreadable_rest_answers_are_bad_responses(
    shell: Shell, http_server: ScriptedHttp, body: bytes
) -> None:
    http_server.body = body
    with shell(http_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"", _grpc_prediction()[:-20]])
def test_unreadable_grpc_answers_are_bad_responses(
    shell: Shell, grpc_server: ScriptedGrpc, body: bytes
) -> None:
    grpc_server.behaviour = lambda *_: body
    with shell(grpc_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


def test_answers_for_another_number_of_images_are_bad_responses(
    shell: Shell, grpc_server: ScriptedGrpc
) -> None:
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with shell(grpc_server.url) as digits, pytest.raises(BadResponse, match=r"\(3, 10\)"):
        digits.classify(np.zeros((3, 28, 28), np.uint8))


def test_no_server_is_a_connection_error(shell: Shell, scheme: str, closed_port: int) -> None:
    with shell(f"{scheme}://127.0.0.1:{closed_port}") as digits:
        with pytest.raises(Unreachable) as failure:
            digits.classify(IMAGES)
        assert isinstance(failure.value, ConnectionError)
        assert not digits.ready()


def test_a_server_that_never_answers_is_a_timeout(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"{scheme}://127.0.0.1:{raw_server(None)}", timeout=0.2) as digits:
        with pytest.raises(TimeoutError):
            digits.classify(IMAGES)
        assert not digits.ready()


def test_an_answer_that_drips_is_a_timeout(shell: Shell, http_server: ScriptedHttp) -> None:
    """Each piece comes in time; the whole does not."""
    http_server.body, http_server.pause = b"x" * 1000, 0.05
    with shell(http_server.url) as digits, pytest.raises(DeadlineExceeded):
        digits.status(timeout=0.3)


@pytest.mark.parametrize("model", ["", None, 5, "\udcff"])
def test_a_model_without_a_name_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInput, match="model is"):
        DigitClient("grpc://localhost", model=model)


def test_numpy_numbers_are_numbers(shell: Shell, grpc_server: ScriptedGrpc) -> None:
    float_30: Any = np.float32(30)
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with shell(grpc_server.url, timeout=float_30) as digits:
        assert digits.classify(IMAGES, version=np.int64(7)).version == 7  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_server_that_dies_in_mid_call_is_a_connection_error(
    shell: Shell, answer: bytes, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"http://127.0.0.1:{raw_server(answer)}") as digits:
        with pytest.raises(Unreachable):
            digits.classify(IMAGES)


def test_garbage_for_http_is_a_bad_response(
    shell: Shell, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"http://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)


def test_garbage_for_grpc_is_a_bad_response(
    shell: Shell, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"grpc://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)


def test_bad_input_is_refused_before_anything_is_sent(
    shell: Shell, grpc_server: ScriptedGrpc, http_server: ScriptedHttp
) -> None:
    for server in (grpc_server, http_server):
        with shell(server.url) as digits:
            for arguments in (
                {"images": np.full((28, 28), np.nan)},
                {"images": IMAGES, "version": 1, "label": "stable"},
                {"images": IMAGES, "version": -1},
                {"images": IMAGES, "version": 0},
                {"images": IMAGES, "version": 2**63},
                {"images": IMAGES, "version": True},
                {"images": IMAGES, "version": "1"},
                {"images": IMAGES, "label": ""},
                {"images": IMAGES, "label": 5},
                {"images": IMAGES, "label": "\udcff"},
                {"images": IMAGES, "timeout": "5"},
                {"images": IMAGES, "timeout": True},
                {"images": IMAGES, "timeout": 1e300},
                {"images": IMAGES, "timeout": 0},
                {"images": IMAGES, "timeout": float("inf")},
            ):
                with pytest.raises(InvalidInput):
                    digits.classify(**arguments)
        assert server.calls == []


def test_a_closed_client_says_so(shell: Shell, scheme: str, closed_port: int) -> None:
    with shell(f"{scheme}://127.0.0.1:{closed_port}", policy=ONCE) as digits:
        digits.close()
        digits.close()
        for verb in (lambda: digits.classify(IMAGES), digits.status, digits.metadata):
            with pytest.raises(Unreachable, match="this client is closed"):
                verb()


SECRET = "key-8d1f"


def test_the_key_and_headers_are_sent_and_told_to_nobody_else(
    shell: Shell, server: Server, closed_port: int
) -> None:
    secrets: Any = {"api_key": SECRET, "headers": {"x-team": SECRET + "b"}, "policy": ONCE}
    server.see()
    with shell(server.url, **secrets) as digits:
        digits.classify(IMAGES)
        assert SECRET not in repr(digits) + str(digits)
    assert server.headers[-1]["x-api-key"] == SECRET
    assert server.headers[-1]["x-team"] == SECRET + "b"
    if isinstance(server, ScriptedGrpc):
        server.say(b"\xff")
    else:
        server.behaviour = lambda *_: (418, b"\xff")
    for url in (server.url, f"{server.url.split(':')[0]}://127.0.0.1:{closed_port}"):
        with shell(url, **secrets) as digits, pytest.raises(CallError) as failure:
            digits.classify(IMAGES)
        told = "".join(traceback.format_exception(failure.value)) + repr(failure.value)
        assert SECRET not in told


def test_unix_sockets(shell: Shell, start: Start, tmp_path: Path) -> None:
    with start(path=str(tmp_path / "socket")) as server:
        server.see()
        with shell(server.url, policy=ONCE) as digits:
            for _ in range(2):
                assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def test_several_targets_take_turns(shell: Shell, start: Start) -> None:
    with start() as one, start() as other:
        with shell(f"{one.url},127.0.0.1:{other.port}", policy=ONCE) as digits:
            one.see()
            other.see()
            for _ in range(4):
                digits.classify(IMAGES)
        assert (len(one.calls), len(other.calls)) == (2, 2)


def test_messages_of_any_size(shell: Shell, server: Server) -> None:
    server.see()
    pixels = np.repeat(np.arange(8000, dtype=np.uint8) % 10, 784).reshape(-1, 28, 28)
    with shell(server.url, policy=ONCE) as digits:
        assert digits.classify(pixels, timeout=60).digits.tolist() == pixels[:, 0, 0].tolist()
        assert len(server.calls[-1][-1]) > 5_000_000
        words = "x" * 6_000_000
        if isinstance(server, ScriptedGrpc):
            server.say(grpc_status(30, words))
        else:
            row = {"version": 5, "state": "AVAILABLE", "status": {"error_message": words}}
            answer = json.dumps({"model_version_status": [row]}).encode()
            server.behaviour = lambda *_: (200, answer)
        assert digits.status(timeout=60)[0].error == words


def test_a_server_that_comes_back_on_its_port_is_found_again(
    shell: Shell, start: Start, closed_port: int
) -> None:
    with contextlib.ExitStack() as stack:
        with start(closed_port) as server:
            server.see()
            digits = shell(server.url, policy=ONCE)
            stack.callback(digits.__exit__)
            digits.classify(IMAGES)
        with pytest.raises(Unreachable):
            digits.classify(IMAGES)
        assert not digits.ready()
        again = stack.enter_context(start(closed_port))
        again.say(grpc_status(30) if isinstance(again, ScriptedGrpc) else STATUS)
        digits.wait_until_ready(timeout=30)
        again.see()
        assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def test_a_new_client_has_none_of_an_older_ones_troubles(
    shell: Shell, scheme: str, start: Start, closed_port: int
) -> None:
    """The older one waits before it connects again; the new one finds the server at once."""
    url = f"{scheme}://127.0.0.1:{closed_port}"
    with shell(url, policy=ONCE) as older:
        with pytest.raises(Unreachable):
            older.classify(IMAGES)
        with start(closed_port) as server, shell(url, policy=ONCE) as digits:
            server.see()
            assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def test_threads_get_their_own_answers(shell: Shell, server: Server) -> None:
    server.see()
    with shell(server.url, policy=Policy(timeout=60)) as digits:

        def ask(number: int) -> bool:
            images = np.full((number % 3 + 1, 28, 28), number % 10, np.uint8)
            return bool((digits.classify(images).digits == number % 10).all())

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(320)))


def _open_files() -> set[str]:
    links = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.add(str(link.readlink()))
    return {link for link in links if link.startswith("socket:")}


def _soon(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _ends_with_unreachable(digits: Digits, waiting: Callable[[], object], n: int = 3) -> None:
    """`n` calls are under way when the client is closed."""
    with ThreadPoolExecutor(n) as pool:
        calls = [pool.submit(digits.classify, IMAGES) for _ in range(n)]
        assert _soon(waiting)
        started = time.monotonic()
        digits.close()
        for call in calls:
            with pytest.raises(Unreachable, match="closed"):
                call.result()
        assert time.monotonic() - started < 30  # of 60


def test_closing_ends_the_calls_that_are_under_way_and_leaves_nothing(
    shell: Shell, server: Server
) -> None:
    threads, files = set(threading.enumerate()), _open_files()
    go_on = threading.Event()
    server.see(pause=go_on.wait)
    with shell(server.url, policy=Policy(timeout=60)) as digits:
        _ends_with_unreachable(digits, lambda: len(server.calls) == 3)
        go_on.set()
        with pytest.raises(Unreachable, match="closed"):
            digits.classify(IMAGES)
    mine = {"hedge", "classify_many"}
    new = [thread.name for thread in set(threading.enumerate()) - threads]
    assert not [name for name in new if name.split("_")[0] in mine]
    assert isinstance(server, ScriptedGrpc) or _soon(lambda: _open_files() <= files)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_closing_ends_the_wait_for_the_next_attempt(
    shell: Shell, scheme: str, closed_port: int
) -> None:
    attempts: list[object] = []

    def seen(attempt: object) -> contextlib.nullcontext[None]:
        attempts.append(attempt)
        return contextlib.nullcontext()

    url = f"{scheme}://127.0.0.1:{closed_port}"
    policy = Policy(timeout=60, first_wait=50, longest_wait=50)
    with shell(url, policy=policy, observe=seen) as digits:
        _ends_with_unreachable(digits, lambda: len(attempts) == 3)


@pytest.mark.parametrize("scheme", ["grpc", "http", "grpcs", "https"])
def test_closing_ends_what_a_silent_server_holds_up(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    url = f"{scheme}://127.0.0.1:{raw_server(None)}"
    before = _open_files()
    with shell(url, policy=Policy(attempts=1, timeout=60)) as digits:
        _ends_with_unreachable(digits, lambda: _open_files() - before)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_at_any_moment_of_connecting_ends_the_call(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    url = f"{scheme}://127.0.0.1:{raw_server(None)}"
    for _ in range(30):
        before = _open_files()
        with shell(url, policy=Policy(attempts=1, timeout=60)) as digits:
            _ends_with_unreachable(digits, lambda before=before: _open_files() - before)  # type: ignore[misc]
