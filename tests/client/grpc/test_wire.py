from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tfserving_client import BadResponse, CallError, Overloaded, Rejected, ServerFailed, Unreachable
from tfserving_client.digits.images import prepare
from tfserving_client.errors import CallContext
from tfserving_client.grpc.wire import GrpcWire, failure
from tfserving_client.tensors import dtypes

CONTEXT = CallContext("grpc://here:1", "mnist")


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        ("UNAVAILABLE", "connections to all backends failing", Unreachable),
        ("UNAVAILABLE", "Failed parsing HTTP/2", BadResponse),
        ("UNAVAILABLE", "Trying to connect an http1.x server", BadResponse),
        ("UNKNOWN", "Received http2 header with status: 502", BadResponse),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 4)", Rejected),
        ("RESOURCE_EXHAUSTED", "the queue is full", Overloaded),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this request was submitted is full; task size: 1",
            Overloaded,
        ),
        ("UNKNOWN", "Stream removed", Unreachable),
        ("A_STATUS_OF_LATER", "", ServerFailed),
    ],
)
def test_words_tell_apart_what_a_status_does_not(
    status: str, details: str, kind: type[CallError]
) -> None:
    error = failure(CONTEXT, status, details, {})
    assert type(error) is kind
    assert error.server_text == f"{status} {details}"


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, None), ({"grpc-retry-pushback-ms": "250"}, 0.25), ({"retry-after": "3"}, 3.0),
        ({"grpc-retry-pushback-ms": "-1"}, math.inf), ({"grpc-retry-pushback-ms": "soon"}, None),
        ({"grpc-retry-pushback-ms": "100", "retry-after": "3"}, 0.1),
    ],
)  # fmt: skip
def test_the_servers_advice_is_seconds(metadata: dict[str, Any], seconds: float | None) -> None:
    assert failure(CONTEXT, "UNAVAILABLE", "", metadata).retry_after == seconds


def test_any_cut_answer_is_unreadable_or_incomplete_and_never_another_error() -> None:
    response = predict_pb2.PredictResponse()
    response.outputs["digits"].dtype = 9
    response.outputs["digits"].tensor_shape.dim.add(size=3)
    response.outputs["digits"].int64_val.extend([1, 2, 300])
    exchange = GrpcWire().predict(CONTEXT, prepare([[0.0] * 784]).inputs)
    whole = response.SerializeToString()
    for cut in range(1, len(whole)):
        with pytest.raises(BadResponse):
            exchange.decode(whole[:cut])
    assert exchange.decode(whole).outputs["digits"].tolist() == [1, 2, 300]


def _decoded(tensor: tensor_pb2.TensorProto) -> Any:
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(tensor)
    return GrpcWire().predict(CONTEXT, {}).decode(response.SerializeToString()).outputs["y"]


# Every type, with values that need several bytes each as varints, and negative ones.
_VALUES = {
    "f": [0.5, -1.25, 3e4], "c": [1 + 2j, -3j, 0], "i": [-1, 0, 100], "u": [0, 1, 200],
    "b": [True, False, True], "O": [b"a\0", b"", b"\xff" * 200], "V": [0, 1, 1],
}  # fmt: skip


def _array(row: dtypes.DType) -> Any:
    if row is dtypes.BFLOAT16:
        return np.array([0.5, -1.25, 3e8], ml_dtypes.bfloat16)
    values = _VALUES[row.plain.kind] if row.field != "float8_val" else [0, 1, 255]
    if row.bounds:
        values = [row.bounds[0], 1, row.bounds[1]]
    return np.array(values, row.plain).view(row.numpy)


@pytest.mark.parametrize("form", ["typed", "content"])
@pytest.mark.parametrize("row", dtypes.BY_NUMBER.values(), ids=lambda row: row.name)
def test_every_dtype_is_read_in_both_forms(row: dtypes.DType, form: str) -> None:
    array = _array(row)
    tensor = tensor_pb2.TensorProto(dtype=row.number)
    tensor.tensor_shape.dim.add(size=3)
    if form == "typed":
        values = array.view(row.plain)
        if row.field == "float8_val":
            values = values.tobytes()
        elif row.field == "half_val":
            values = values.view(np.uint16).tolist()
        elif row.plain.kind == "c":
            values = values.view(values.real.dtype).tolist()
        if isinstance(values, bytes):
            tensor.float8_val = values
        else:
            getattr(tensor, row.field).extend(values)
    elif row is dtypes.STRING:
        tensor.tensor_content = b"\x02\x00\xc8\x01" + b"".join(array)
    else:
        tensor.tensor_content = array.tobytes()
    found = _decoded(tensor)
    if row is dtypes.BFLOAT16:
        assert found.dtype == np.float32
        array = array.astype(np.float32)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("row", dtypes.BY_NUMBER.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("shape", [(3,), (3, 1), (), (0, 2)])
def test_every_dtype_is_written_as_tensorflow_reads_it(
    row: dtypes.DType, shape: tuple[int, ...]
) -> None:
    array = np.resize(_array(row).view(row.numpy), shape)
    body = GrpcWire().predict(CONTEXT, {"x": array}).body
    tensor = predict_pb2.PredictRequest.FromString(body).inputs["x"]
    assert tensor.dtype == row.number
    assert [dim.size for dim in tensor.tensor_shape.dim] == list(shape)
    if row is dtypes.STRING:
        assert list(tensor.string_val) == array.ravel().tolist()
    else:
        assert tensor.tensor_content == array.tobytes()


def test_a_short_field_repeats_its_last_value() -> None:
    whole = tf.make_tensor_proto(7.5, shape=[2, 3])
    assert len(whole.float_val) == 1
    assert _decoded(whole).tolist() == [[7.5] * 3] * 2
    whole.float_val.extend([8.5])
    assert _decoded(whole).tolist() == [[7.5, 8.5, 8.5], [8.5] * 3]
    text = tf.make_tensor_proto(b"x", shape=[3])
    assert _decoded(text).tolist() == [b"x"] * 3


@pytest.mark.parametrize(
    ("field", "values", "sizes"),
    [
        ("float_val", [], [3]),
        ("float_val", [1, 2, 3], [2]),
        ("float_val", [1, 2], [1 << 40]),
        ("tensor_content", b"123", [1]),
        ("float_val", [1], [-1]),
        ("float_val", [1], [2] * 70),
        ("float_val", [1], [1] * 1_025),  # whose bytes are more than a shape's can be
    ],
)
def test_what_does_not_fill_its_tensor_is_unreadable(
    field: str, values: Any, sizes: list[int]
) -> None:
    tensor = tensor_pb2.TensorProto(dtype=1)
    if isinstance(values, bytes):
        tensor.tensor_content = values
    else:
        getattr(tensor, field).extend(values)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    with pytest.raises(BadResponse):
        _decoded(tensor)


@pytest.mark.parametrize("content", [b"\x02", b"\x01\x01a", b"\x01\x01abc", b"\xff" * 20])
def test_strings_in_pieces_that_do_not_fit_are_unreadable(content: bytes) -> None:
    tensor = tensor_pb2.TensorProto(dtype=7, tensor_content=content)
    tensor.tensor_shape.dim.add(size=2)
    with pytest.raises(BadResponse):
        _decoded(tensor)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_any_integers_of_64_bits(numbers: list[int]) -> None:
    tensor = tensor_pb2.TensorProto(dtype=9, int64_val=numbers)
    tensor.tensor_shape.dim.add(size=len(numbers))
    assert _decoded(tensor).tolist() == numbers
