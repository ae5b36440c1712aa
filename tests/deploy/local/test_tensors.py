from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2

from deploy.local import tensors
from deploy.local.errors import Code, ServingError


def proto(dtype: str, shape: Any = (), **fields: Any) -> tensor_pb2.TensorProto:
    made = tensor_pb2.TensorProto(dtype=getattr(types_pb2, f"DT_{dtype}"), **fields)
    for size in shape:
        made.tensor_shape.dim.add().size = size
    return made


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (proto("FLOAT", [2], tensor_content=np.array([1.5, -2], np.float32).tobytes()), [1.5, -2]),
        (proto("FLOAT", [2], float_val=[1.5, -2]), [1.5, -2]),
        (proto("FLOAT", [3], float_val=[4]), [4, 4, 4]),
        (proto("FLOAT", [3], float_val=[4, 5]), [4, 5, 5]),
        (proto("FLOAT", [1], float_val=[4, 5]), [4]),
        (proto("FLOAT", [2]), [0, 0]),
        (proto("FLOAT", [2], int_val=[1, 2]), [0, 0]),
        (proto("FLOAT", [], float_val=[7, 8]), 7),
        (proto("FLOAT", [0], float_val=[7]), []),
        (proto("FLOAT", [0], tensor_content=b"left over"), []),
        (proto("INT8", [4], int_val=[200, -129, 127, -128]), [-56, 127, 127, -128]),
        (proto("UINT8", [3], int_val=[300, -1, 255]), [44, 255, 255]),
        (proto("INT64", [2], int64_val=[-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
        (proto("UINT64", [1], uint64_val=[2**64 - 1]), [2**64 - 1]),
        (proto("BOOL", [3], bool_val=[True, False]), [True, False, False]),
        (proto("BOOL", [2], tensor_content=b"\1\0"), [True, False]),
        (proto("HALF", [2], half_val=[0x3E00, 0x1C000]), [1.5, -2.0]),
        (proto("BFLOAT16", [1], half_val=[0x3FC0]), [1.5]),
        (proto("COMPLEX64", [2], scomplex_val=[1, 2]), [1 + 2j, 1 + 2j]),
        (proto("STRING", [2], string_val=[b"a"]), [b"a", b"a"]),
        (proto("STRING", [2]), [b"", b""]),
        (proto("STRING", [2], tensor_content=b"\1\3abcd"), [b"a", b"bcd"]),
        (proto("STRING", [1], tensor_content=b"\x81\1" + b"x" * 129), [b"x" * 129]),
    ],
)
def test_decode(message: Any, expected: Any) -> None:
    array = tensors.decode(message, "x")
    assert array.tolist() == expected
    assert tensors.dtype_of(array) == message.dtype


@pytest.mark.parametrize(
    "message",
    [
        proto("FLOAT", [2], tensor_content=b"1234"),
        proto("FLOAT", [2], tensor_content=b"1234567"),
        proto("FLOAT", [-1], float_val=[1]),
        proto("FLOAT", [0, -1]),
        proto("FLOAT", [2**62, 2**62], float_val=[1]),
        proto("FLOAT", [2**40], float_val=[1]),
        proto("FLOAT", [1] * 255, float_val=[1]),
        proto("INVALID", [1]),
        proto("FLOAT_REF", [1], float_val=[1]),
        proto("STRING", [1], tensor_content=b"\1abc"),
        proto("STRING", [3], tensor_content=b"\1a"),
        proto("STRING", [1], tensor_content=b"\xff"),
        tensor_pb2.TensorProto(),
    ],
)
def test_what_cannot_be_decoded(message: Any) -> None:
    with pytest.raises(ServingError) as caught:
        tensors.decode(message, "x")
    assert (caught.value.code, caught.value.message) == (
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    )


@pytest.mark.parametrize(
    ("array", "field", "values"),
    [
        (np.array([[1, 2]], np.float32), "float_val", [1, 2]),
        (np.array([0.1], np.float64), "double_val", [0.1]),
        (np.array([255], np.uint8), "int_val", [255]),
        (np.array([-1], np.int64), "int64_val", [-1]),
        (np.array([2**32 - 1], np.uint32), "uint32_val", [2**32 - 1]),
        (np.array([True]), "bool_val", [True]),
        (np.array([b"\xff"], object), "string_val", [b"\xff"]),
        (np.array([1.5], np.float16), "half_val", [0x3E00]),
        (np.array([1.5], ml_dtypes.bfloat16), "half_val", [0x3FC0]),
        (np.array([1 + 2j], np.complex64), "scomplex_val", [1, 2]),
    ],
)
def test_encode_fills_the_field_of_the_type(array: Any, field: str, values: Any) -> None:
    message = tensor_pb2.TensorProto()
    tensors.encode(array, message)
    assert list(getattr(message, field)) == values
    assert not message.tensor_content
    assert [dim.size for dim in message.tensor_shape.dim] == list(array.shape)
    np.testing.assert_array_equal(tensors.decode(message, "x"), array)


def test_encode_as_content() -> None:
    message = tensor_pb2.TensorProto()
    tensors.encode(np.array([1, 2], np.float32), message, as_content=True)
    assert message.tensor_content == np.array([1, 2], np.float32).tobytes()
    assert not message.float_val


def test_a_scalar_has_a_shape_without_dimensions() -> None:
    message = tensor_pb2.TensorProto()
    tensors.encode(np.array(1, np.float32), message)
    assert message.HasField("tensor_shape")
    assert not message.tensor_shape.dim


def test_more_dimensions_than_numpy_holds() -> None:
    given = proto("INT32", [1] * 253 + [2], int_val=[1, 2])
    array = tensors.decode(given, "x")
    copy = tensor_pb2.TensorProto()
    tensors.encode(array, copy)
    assert (array.tolist(), copy) == ([1, 2], given)
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: tensor parsing error: x$"):
        tensors.decode(proto("INT32", [1] * 255), "x")
