"""Whatever comes in at either port, the server answers or refuses it, and goes on."""

import contextlib
import json
import os
import random
import socket
from itertools import pairwise
from typing import Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

SERVICES = {
    "PredictionService": ["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"],
    "ModelService": ["GetModelStatus", "HandleReloadConfigRequest"],
}
METHODS = [
    f"/tensorflow.serving.{service}/{name}" for service, names in SERVICES.items() for name in names
]
# A refusal. UNKNOWN and INTERNAL would be a fault of the server's that nobody foresaw.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}
STEADY = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIZES = st.sampled_from([-(2**63), -2, -1, 0, 1, 2, 3, 2**31, 2**40, 2**62, 2**63 - 1])


def _request() -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "line"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))
    return bytes(request.SerializeToString())


VALID = _request()


@pytest.fixture(autouse=True)
def _it_goes_on(server: Any) -> Any:
    yield
    assert server.process.poll() is None, server.log.read_text()
    assert server.predict("line", x=[5.0]).outputs["y"].float_val == [6.5]
    assert server.rest("POST", "/v1/models/line:predict", '{"instances":[5.0]}')[0] == 200
    assert "Traceback" not in server.log.read_text()


def _ask(server: Any, method: str, body: bytes) -> None:
    call = server.channel.unary_unary(method).future(body, timeout=60)
    code, details = call.code(), call.details()  # once it has ended
    # An unreadable message is gRPC's own INTERNAL, as it is in C++.
    is_unreadable = code is grpc.StatusCode.INTERNAL and "pars" in details
    assert code in {*REFUSALS, grpc.StatusCode.OK} or is_unreadable, (code, details, body)


@STEADY
@given(st.sampled_from(METHODS), st.binary(max_size=200))
def test_bytes_that_are_no_message(server: Any, method: str, body: bytes) -> None:
    _ask(server, method, body)


@STEADY
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_a_message_with_bytes_changed_lost_and_added(
    server: Any, chance: random.Random, times: int
) -> None:
    body = bytearray(VALID)
    for _ in range(times):
        at = chance.randrange(len(body) or 1)
        change = chance.choice(["set", "cut", "add", "drop"])
        if change == "set" and body:
            body[at] = chance.randrange(256)
        elif change == "cut":
            del body[at:]
        elif change == "add":
            body[at:at] = chance.randbytes(chance.randint(1, 9))
        else:
            del body[at : at + 1]
    _ask(server, METHODS[0], bytes(body))


@STEADY
@given(
    st.integers(-1, 140), st.lists(SIZES, max_size=5), st.binary(max_size=40), st.booleans(),
    st.lists(st.floats(width=32), max_size=4),
)  # fmt: skip
def test_tensors_that_claim_any_type_and_shape(
    server: Any, dtype: int, sizes: list[int], content: bytes, unknown: bool, values: list[float]
) -> None:
    request = predict_pb2.PredictRequest.FromString(VALID)
    tensor = request.inputs["x"]
    text_format.Merge(f"dtype: {dtype}" if dtype >= 0 else "", tensor, allow_unknown_field=True)
    tensor.ClearField("tensor_shape")
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_shape.unknown_rank = unknown
    tensor.tensor_content = content
    tensor.float_val.extend(values)
    _ask(server, METHODS[0], request.SerializeToString())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@STEADY
@given(
    st.sampled_from(["predict", "classify", "regress"]),
    st.sampled_from(["line", "shapes", "line/versions/1", "shapes/labels/x", "none"]),
    st.sampled_from(["instances", "inputs", "examples", "signature_name", "context"]),
    JSON,
    st.none() | st.tuples(st.integers(0, 60), st.binary(max_size=6)),
)
def test_json_of_any_kind_whole_or_broken(
    server: Any, verb: str, model: str, key: str, value: Any, hole: tuple[int, bytes] | None
) -> None:
    body = json.dumps({key: value, "instances": [1.0]} if len(key) > 8 else {key: value}).encode()
    if hole:
        body = body[: hole[0]] + hole[1] + body[hole[0] + 2 :]
    status, kind, text = server.rest("POST", f"/v1/models/{model}:{verb}", body)
    assert status in {200, 400, 404, 501}, (status, text, body)
    assert kind == "application/json"


@STEADY
@given(st.binary(max_size=120))
def test_bytes_that_are_no_http(server: Any, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.rest_port), 60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass


def test_bodies_that_come_slowly_or_never_leave_no_thread_behind(server: Any) -> None:
    head = b"POST /v1/models/line:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    tasks = f"/proc/{server.process.pid}/task"
    counts = []
    for _ in range(5):
        connections = [
            socket.create_connection(("127.0.0.1", server.rest_port), 60) for _ in range(50)
        ]
        for connection in connections:
            connection.sendall(head + b"{")
        assert server.rest("POST", "/v1/models/line:predict", '{"instances":[5.0]}')[0] == 200
        for connection in connections:
            connection.sendall(b'"')
            connection.close()
        counts.append(len(os.listdir(tasks)))  # noqa: PTH208 (no more is wanted than how many)
    # A pool may still grow to its size, but what leaves threads behind does so in each round.
    assert any(after <= before for before, after in pairwise(counts))
