"""The verbs, over both protocols, with threads and with asyncio, against scripted servers."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tensorflow_serving.apis import (
    predict_pb2,
)

from tests.client.conftest import (
    IMAGES,
    ONCE,
    PACKED_IS_MISSING,
    ROWS,
    ScriptedGrpc,
    ScriptedHttp,
    Server,
    Shell,
    grpc_status,
)
from tfserving_client import (
    BadResponse,
    DigitClient,
    InvalidInput,
    Policy,
)


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


def test_answers_for_another_number_of_images_are_bad_responses(
    shell: Shell, grpc_server: ScriptedGrpc
) -> None:
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with shell(grpc_server.url) as digits, pytest.raises(BadResponse, match=r"\(3, 10\)"):
        digits.classify(np.zeros((3, 28, 28), np.uint8))


@pytest.mark.parametrize("model", ["", None, 5, "\udcff"])
def test_a_model_without_a_name_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInput, match="model is"):
        DigitClient("grpc://localhost", model=model)


def test_numpy_numbers_are_numbers(shell: Shell, grpc_server: ScriptedGrpc) -> None:
    float_30: Any = np.float32(30)
    grpc_server.behaviour = lambda *_: _grpc_prediction()
    with shell(grpc_server.url, timeout=float_30) as digits:
        assert digits.classify(IMAGES, version=np.int64(7)).version == 7  # type: ignore[arg-type]


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


def test_threads_get_their_own_answers(shell: Shell, server: Server) -> None:
    server.see()
    with shell(server.url, policy=Policy(timeout=60)) as digits:

        def ask(number: int) -> bool:
            images = np.full((number % 3 + 1, 28, 28), number % 10, np.uint8)
            return bool((digits.classify(images).digits == number % 10).all())

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(320)))
