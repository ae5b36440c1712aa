"""The verbs, over both protocols, against scripted servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from client import (
    AccessDenied,
    BadResponse,
    CallError,
    DeadlineExceeded,
    DigitClient,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Signature,
    State,
    TensorSpec,
    Unreachable,
    VersionStatus,
    grpc_wire,
    rest_wire,
)
from tests.client.conftest import ScriptedGrpc, ScriptedHttp

IMAGES = np.arange(2 * 784, dtype=np.int64).reshape(2, 28, 28) % 256
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
def test_classify_over_grpc(grpc_server: ScriptedGrpc, content: bool) -> None:
    grpc_server.behaviour = lambda *_: _grpc_prediction(content=content)
    with DigitClient(grpc_server.url) as digits:
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


def test_classify_over_rest(http_server: ScriptedHttp) -> None:
    outputs = {"probabilities": ROWS, "digits": [9, 0]}
    http_server.body = json.dumps({"outputs": outputs}).encode()
    with DigitClient(http_server.url) as digits:
        answer = digits.classify(IMAGES, label="a/b c")
    assert (answer.digits.tolist(), answer.probabilities.tolist()) == ([9, 0], ROWS)
    assert answer.digits.dtype == np.int64
    assert answer.probabilities.dtype == np.float32
    assert answer.version is None
    ((verb, path, body),) = http_server.calls
    assert (verb, path) == ("POST", "/v1/models/mnist/labels/a%2Fb%20c:predict")
    assert json.loads(body) == {"signature_name": "serving_default", "inputs": IMAGES.tolist()}


def test_floats_have_one_output_whose_best_is_the_digit(http_server: ScriptedHttp) -> None:
    http_server.body = json.dumps({"outputs": ROWS}).encode()
    with DigitClient(http_server.url) as digits:
        answer = digits.classify(IMAGES / 255, version=3)
    assert (answer.digits.tolist(), answer.version) == ([9, 0], 3)


def test_status_over_both(grpc_server: ScriptedGrpc, http_server: ScriptedHttp) -> None:
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=2, state=50).status.error_message = "broken"
    response.model_version_status.add(version=1, state=30)
    grpc_server.behaviour = lambda *_: response.SerializeToString()
    rows = [("2", "END", "broken"), ("1", "AVAILABLE", "")]
    http_server.body = json.dumps(
        {
            "model_version_status": [
                {"version": version, "state": state, "status": {"error_message": error}}
                for version, state, error in rows
            ]
        }
    ).encode()
    expected = (VersionStatus(2, State.END, "broken"), VersionStatus(1, State.AVAILABLE))
    for url in (grpc_server.url, http_server.url):
        with DigitClient(url) as digits:
            assert digits.status() == expected
            assert digits.ready()


def test_metadata_over_both(grpc_server: ScriptedGrpc, http_server: ScriptedHttp) -> None:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    definition = signatures.signature_def["encoded"]
    definition.inputs["image_bytes"].dtype = 7
    definition.inputs["image_bytes"].tensor_shape.dim.add(size=-1)
    definition.outputs["digits"].dtype = 9
    definition.outputs["digits"].tensor_shape.unknown_rank = True
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "mnist"
    response.model_spec.version.value = 4
    response.metadata["signature_def"].Pack(signatures)
    grpc_server.behaviour = lambda *_: response.SerializeToString()
    http_server.body = json.dumps(
        {
            "model_spec": {"name": "mnist", "signature_name": "", "version": "4"},
            "metadata": {
                "signature_def": {
                    "signature_def": {
                        "encoded": {
                            "inputs": {
                                "image_bytes": {
                                    "dtype": "DT_STRING",
                                    "tensor_shape": {
                                        "dim": [{"size": "-1", "name": ""}],
                                        "unknown_rank": False,
                                    },
                                }
                            },
                            "outputs": {
                                "digits": {
                                    "dtype": "DT_INT64",
                                    "tensor_shape": {"dim": [], "unknown_rank": True},
                                }
                            },
                        }
                    }
                }
            },
        }
    ).encode()
    expected = Signature(
        {"image_bytes": TensorSpec("DT_STRING", (None,))}, {"digits": TensorSpec("DT_INT64", None)}
    )
    for url in (grpc_server.url, http_server.url):
        with DigitClient(url) as digits:
            metadata = digits.metadata()
        assert (metadata.model, metadata.version) == ("mnist", 4)
        assert metadata.signatures == {"encoded": expected}


def test_every_grpc_status_is_mapped() -> None:
    names = {status.name for status in grpc.StatusCode} - {"OK"}
    assert set(grpc_wire.ERRORS) == names


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status.name != "OK"])
def test_grpc_failures_have_their_class_and_the_servers_words(
    grpc_server: ScriptedGrpc, status: grpc.StatusCode
) -> None:
    def fail(_: str, __: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(status, "the server's words")
        raise AssertionError

    grpc_server.behaviour = fail
    with DigitClient(grpc_server.url) as digits, pytest.raises(CallError) as failure:
        digits.classify(IMAGES)
    assert type(failure.value) is grpc_wire.ERRORS[status.name]
    assert "the server's words" in str(failure.value)


# Section "status code mapping" of the server's REST interface: all it can answer with.
SERVER_STATUSES = (400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504)


@pytest.mark.parametrize("status", SERVER_STATUSES)
def test_http_failures_have_their_class_and_the_servers_words(
    http_server: ScriptedHttp, status: int
) -> None:
    http_server.status, http_server.body = status, b'{"error": "the server\'s words"}'
    with DigitClient(http_server.url) as digits, pytest.raises(CallError) as failure:
        digits.classify(IMAGES)
    assert type(failure.value) is rest_wire.ERRORS[status]
    assert "the server's words" in str(failure.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected), (401, AccessDenied), (404, NotFound), (429, Overloaded),
        (500, ServerFailed), (503, Unreachable), (504, DeadlineExceeded),
    ],
)  # fmt: skip
def test_the_common_statuses_by_name(
    http_server: ScriptedHttp, status: int, kind: type[CallError]
) -> None:
    http_server.status, http_server.body = status, b'{"error": "no"}'
    with DigitClient(http_server.url) as digits, pytest.raises(kind):
        digits.status()


@pytest.mark.parametrize("status", [200, 404])
def test_another_program_on_the_port_is_a_bad_response(
    http_server: ScriptedHttp, status: int
) -> None:
    http_server.status, http_server.body = status, b"<html>a shop</html>"
    with DigitClient(http_server.url) as digits, pytest.raises(BadResponse):
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
def test_unreadable_rest_answers_are_bad_responses(http_server: ScriptedHttp, body: bytes) -> None:
    http_server.body = body
    with DigitClient(http_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"", _grpc_prediction()[:-20]])
def test_unreadable_grpc_answers_are_bad_responses(grpc_server: ScriptedGrpc, body: bytes) -> None:
    grpc_server.behaviour = lambda *_: body
    with DigitClient(grpc_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


def test_answers_for_another_number_of_images_are_bad_responses(grpc_server: ScriptedGrpc) -> None:
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with DigitClient(grpc_server.url) as digits, pytest.raises(BadResponse, match=r"\(3, 10\)"):
        digits.classify(np.zeros((3, 28, 28), np.uint8))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server_is_a_connection_error(scheme: str, closed_port: int) -> None:
    with DigitClient(f"{scheme}://127.0.0.1:{closed_port}") as digits:
        with pytest.raises(Unreachable) as failure:
            digits.classify(IMAGES)
        assert isinstance(failure.value, ConnectionError)
        assert not digits.ready()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_never_answers_is_a_timeout(
    scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    with DigitClient(f"{scheme}://127.0.0.1:{raw_server(None)}", timeout=0.2) as digits:
        with pytest.raises(TimeoutError):
            digits.classify(IMAGES)
        assert not digits.ready()


def test_an_answer_that_drips_is_a_timeout(http_server: ScriptedHttp) -> None:
    """Each piece comes in time; the whole does not."""
    http_server.body, http_server.pause = b"x" * 1000, 0.05
    with DigitClient(http_server.url) as digits, pytest.raises(DeadlineExceeded):
        digits.status(timeout=0.3)


@pytest.mark.parametrize("model", ["", None, 5, "\udcff"])
def test_a_model_without_a_name_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInput, match="model is"):
        DigitClient("grpc://localhost", model=model)


def test_numpy_numbers_are_numbers(grpc_server: ScriptedGrpc) -> None:
    float_5: Any = np.float32(5)
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with DigitClient(grpc_server.url, timeout=float_5) as digits:
        assert digits.classify(IMAGES, version=np.int64(7)).version == 7  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_server_that_dies_in_mid_call_is_a_connection_error(
    answer: bytes, raw_server: Callable[[bytes | None], int]
) -> None:
    with DigitClient(f"http://127.0.0.1:{raw_server(answer)}") as digits:
        with pytest.raises(Unreachable):
            digits.classify(IMAGES)


def test_garbage_for_http_is_a_bad_response(raw_server: Callable[[bytes | None], int]) -> None:
    with DigitClient(f"http://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)


def test_garbage_for_grpc_is_a_bad_response(raw_server: Callable[[bytes | None], int]) -> None:
    with DigitClient(f"grpc://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)


def test_bad_input_is_refused_before_anything_is_sent(
    grpc_server: ScriptedGrpc, http_server: ScriptedHttp
) -> None:
    for server in (grpc_server, http_server):
        with DigitClient(server.url) as digits:
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


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_closed_client_says_so(scheme: str, closed_port: int) -> None:
    digits = DigitClient(f"{scheme}://127.0.0.1:{closed_port}")
    digits.close()
    digits.close()
    with pytest.raises(Unreachable, match="closed"):
        digits.classify(IMAGES)


def _statuses(state: int, error: str = "") -> bytes:
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=5, state=state).status.error_message = error
    return bytes(response.SerializeToString())


def test_waiting_ends_when_a_version_is_available(grpc_server: ScriptedGrpc) -> None:
    answers = [_statuses(10), _statuses(20), _statuses(30)]
    grpc_server.behaviour = lambda *_: answers.pop(0)
    with DigitClient(grpc_server.url) as digits:
        digits.wait_until_ready(timeout=30)
    assert answers == []


def test_waiting_in_vain_says_what_was_last_seen(grpc_server: ScriptedGrpc) -> None:
    grpc_server.behaviour = lambda *_: _statuses(20)
    with DigitClient(grpc_server.url) as digits:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="version 5 LOADING"):
            digits.wait_until_ready(timeout=0.5)
        assert time.monotonic() - started >= 0.5


def test_waiting_for_a_version_that_failed_ends_at_once(grpc_server: ScriptedGrpc) -> None:
    grpc_server.behaviour = lambda *_: _statuses(50, "Could not find SavedModel")
    with DigitClient(grpc_server.url) as digits:
        with pytest.raises(ServerFailed, match="Could not find SavedModel"):
            digits.wait_until_ready(version=5, timeout=60)
    assert len(grpc_server.calls) == 1
