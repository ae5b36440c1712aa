"""TensorProto to numpy and back, by the rules of TensorFlow's `Tensor::FromProto`.

Strings are arrays of `bytes` with dtype object. Quantised types, and the two that numpy
has no notion of, are structured dtypes with one field named after the type, so that an
array always knows its TensorFlow type.
"""

import math
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2, types_pb2

from deploy.local import varint
from deploy.local.errors import invalid

Array = NDArray[Any]

# numpy holds no more; TensorFlow does.
MAX_RANK = 64
_TENSORFLOW_MAX_RANK = 254
# A typed field may stand for more elements than it lists; beyond this the claim is not honoured.
MAX_BYTES = 2**31 - 1


class Deep(np.ndarray[Any, np.dtype[Any]]):
    """The values of a tensor with more dimensions than numpy holds, all in a row.

    Attributes:
        sizes: the tensor's own shape.
    """

    sizes: tuple[int, ...]


class DType(NamedTuple):
    """One TensorFlow type: its name in messages, its numpy dtype, and its field in TensorProto."""

    name: str
    numpy: np.dtype[Any]
    field: str


def _tagged(name: str, base: str) -> np.dtype[Any]:
    return np.dtype([(name, base)])


_T = types_pb2
DTYPES: dict[int, DType] = {
    _T.DT_FLOAT: DType("float", np.dtype(np.float32), "float_val"),
    _T.DT_DOUBLE: DType("double", np.dtype(np.float64), "double_val"),
    _T.DT_INT8: DType("int8", np.dtype(np.int8), "int_val"),
    _T.DT_INT16: DType("int16", np.dtype(np.int16), "int_val"),
    _T.DT_INT32: DType("int32", np.dtype(np.int32), "int_val"),
    _T.DT_INT64: DType("int64", np.dtype(np.int64), "int64_val"),
    _T.DT_UINT8: DType("uint8", np.dtype(np.uint8), "int_val"),
    _T.DT_UINT16: DType("uint16", np.dtype(np.uint16), "int_val"),
    _T.DT_UINT32: DType("uint32", np.dtype(np.uint32), "uint32_val"),
    _T.DT_UINT64: DType("uint64", np.dtype(np.uint64), "uint64_val"),
    _T.DT_BOOL: DType("bool", np.dtype(np.bool_), "bool_val"),
    _T.DT_STRING: DType("string", np.dtype(object), "string_val"),
    _T.DT_HALF: DType("half", np.dtype(np.float16), "half_val"),
    _T.DT_BFLOAT16: DType("bfloat16", np.dtype(ml_dtypes.bfloat16), "half_val"),
    _T.DT_COMPLEX64: DType("complex64", np.dtype(np.complex64), "scomplex_val"),
    _T.DT_COMPLEX128: DType("complex128", np.dtype(np.complex128), "dcomplex_val"),
    _T.DT_FLOAT8_E5M2: DType("float8_e5m2", np.dtype(ml_dtypes.float8_e5m2), "float8_val"),
    _T.DT_FLOAT8_E4M3FN: DType("float8_e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn), "float8_val"),
    _T.DT_FLOAT8_E4M3FNUZ: DType("float8_e4m3fnuz", _tagged("float8_e4m3fnuz", "u1"), "float8_val"),
    _T.DT_FLOAT8_E4M3B11FNUZ: DType(
        "float8_e4m3b11fnuz", _tagged("float8_e4m3b11fnuz", "u1"), "float8_val"
    ),
    _T.DT_FLOAT8_E5M2FNUZ: DType("float8_e5m2fnuz", _tagged("float8_e5m2fnuz", "u1"), "float8_val"),
    _T.DT_INT2: DType("int2", _tagged("int2", "i1"), "int_val"),
    _T.DT_UINT2: DType("uint2", _tagged("uint2", "u1"), "int_val"),
    _T.DT_INT4: DType("int4", _tagged("int4", "i1"), "int_val"),
    _T.DT_UINT4: DType("uint4", _tagged("uint4", "u1"), "int_val"),
    _T.DT_QINT8: DType("qint8", _tagged("qint8", "i1"), "int_val"),
    _T.DT_QUINT8: DType("quint8", _tagged("quint8", "u1"), "int_val"),
    _T.DT_QINT16: DType("qint16", _tagged("qint16", "i2"), "int_val"),
    _T.DT_QUINT16: DType("quint16", _tagged("quint16", "u2"), "int_val"),
    _T.DT_QINT32: DType("qint32", _tagged("qint32", "i4"), "int_val"),
    # These two are read as far as telling a caller that they fit no input.
    _T.DT_RESOURCE: DType("resource", _tagged("resource", "u1"), ""),
    _T.DT_VARIANT: DType("variant", _tagged("variant", "u1"), ""),
}
_BY_NUMPY = {row.numpy: number for number, row in DTYPES.items()}

# Fields that list bit patterns, and the unsigned integers those are.
_BIT_FIELDS = {"half_val": np.uint16, "float8_val": np.uint8}


def dtype_of(array: Array) -> int:
    """The TensorFlow type number of an array.

    Raises:
        KeyError: TensorFlow knows no such type.
    """
    return _BY_NUMPY[array.dtype]


def decode(proto: tensor_pb2.TensorProto, name: str) -> Array:
    """A request's tensor as an array, which may be read-only.

    A typed field with too few values repeats its last one, an empty one means zeros,
    too many are cut; `tensor_content`, if there is any, must fit exactly.

    Raises:
        ServingError: INVALID_ARGUMENT `tensor parsing error: <name>`.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    row = DTYPES.get(proto.dtype)
    if row is None or len(shape) > _TENSORFLOW_MAX_RANK or min(shape, default=0) < 0:
        raise invalid(f"tensor parsing error: {name}")
    count = math.prod(shape)
    if count * row.numpy.itemsize > MAX_BYTES:
        raise invalid(f"tensor parsing error: {name}")
    try:
        if count == 0 or not row.field:
            values = np.zeros(count, row.numpy)
        elif proto.tensor_content:
            values = _from_content(proto.tensor_content, row, count)
        else:
            values = _from_field(proto, row, count)
        return _shaped(values, shape)
    except (ValueError, IndexError):
        raise invalid(f"tensor parsing error: {name}") from None


def _shaped(values: Array, shape: tuple[int, ...]) -> Array:
    if len(shape) <= MAX_RANK:
        return values.reshape(shape)
    deep = values.view(Deep)
    deep.sizes = shape
    return deep


def _from_content(content: bytes, row: DType, count: int) -> Array:
    if row.field == "string_val":
        return _strings_from_content(content, count)
    if len(content) != count * row.numpy.itemsize:
        raise ValueError
    if row.field == "bool_val" and max(content) > 1:
        raise ValueError
    return np.frombuffer(content, row.numpy)


def _strings_from_content(content: bytes, count: int) -> Array:
    """All lengths as varints, then all strings without gaps."""
    lengths, position = [], 0
    for _ in range(count):
        length, position = varint.read(content, position)
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError
    strings = np.empty(count, object)
    for index, length in enumerate(lengths):
        strings[index] = content[position : position + length]
        position += length
    return strings


def _strings_to_content(strings: Array) -> bytes:
    return b"".join([*(varint.write(len(text)) for text in strings.flat), *strings.flat])


def _from_field(proto: tensor_pb2.TensorProto, row: DType, count: int) -> Array:
    listed = getattr(proto, row.field)
    values: Array
    if row.field in _BIT_FIELDS:
        bits = np.array(list(listed), np.int64)
        values = bits.astype(_BIT_FIELDS[row.field]).view(row.numpy)
    elif row.field == "int_val":
        # Out-of-range integers lose their upper bits, as a C++ cast does.
        integer = np.dtype(row.numpy.descr[0][1]) if row.numpy.names else row.numpy
        values = np.array(listed, np.int64).astype(integer).view(row.numpy)
    elif row.numpy.kind == "c":
        pairs = np.array(listed, row.numpy.type(0).real.dtype)
        values = pairs[: len(pairs) // 2 * 2].view(row.numpy)
    else:
        values = np.array(listed, row.numpy)
    if len(values) < count:
        filler = values[-1:] if len(values) else _zero(row)
        values = np.concatenate([values, np.repeat(filler, count - len(values))])
    return values[:count]


def _zero(row: DType) -> Array:
    return np.array([b""], object) if row.field == "string_val" else np.zeros(1, row.numpy)


def encode(array: Array, proto: tensor_pb2.TensorProto, *, as_content: bool = False) -> None:
    """Write an array into an empty message, with all values in the type's own field.

    With `as_content`, they go into `tensor_content` instead.

    Raises:
        ServingError: never for what a session returns; KeyError for a foreign dtype.
    """
    proto.dtype = dtype_of(array)
    proto.tensor_shape.SetInParent()
    for size in array.sizes if isinstance(array, Deep) else array.shape:
        proto.tensor_shape.dim.add().size = size
    row = DTYPES[proto.dtype]
    if as_content:
        is_text = row.field == "string_val"
        proto.tensor_content = _strings_to_content(array) if is_text else array.tobytes()
        return
    flat = array.ravel()
    if row.field == "float8_val":
        proto.float8_val = flat.tobytes()
        return
    if row.field in _BIT_FIELDS:
        flat = flat.view(_BIT_FIELDS[row.field])
    elif row.numpy.kind == "c":
        flat = flat.view(row.numpy.type(0).real.dtype)
    elif row.numpy.names:
        flat = flat.view(row.numpy.descr[0][1])
    getattr(proto, row.field).extend(flat.tolist())
