"""TensorFlow's dtypes: their numbers, their names, and what each is in numpy.

What numpy has no dtype for is a structured one with a single field that is named after the type, as
TensorFlow itself has it, so that an array always knows its type: `np.dtype([("qint8", "i1")])`.
Arrays of `ml_dtypes` are taken, too. Source: tensorflow/core/framework/types.proto and tensor.proto
of TensorFlow 2.21.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class DType(NamedTuple):
    """One type.

    Attributes:
        number: `tensorflow.DataType`.
        name: as `TensorSpec.dtype` has it.
        numpy: of the arrays that are sent and read; `object` for strings.
        field: of TensorProto, which the server answers in.
        bounds: the least and the greatest integer, of integers; None for others.
    """

    number: int
    name: str
    numpy: np.dtype[Any]
    field: str
    bounds: tuple[int, int] | None

    @property
    def plain(self) -> np.dtype[Any]:
        """The numpy dtype of the bits: integers, where numpy has no such type."""
        return self.numpy[0] if self.numpy.names else self.numpy


def _row(number: int, name: str, base: str, field: str, bits: int | None = None) -> DType:
    kind, most = np.dtype(base).kind, 8 * np.dtype(base).itemsize if bits is None else bits
    bounds = None
    if kind in "iu" and most:
        bounds = (-(2 ** (most - 1)), 2 ** (most - 1) - 1) if kind == "i" else (0, 2**most - 1)
    numpy = np.dtype(base) if bits is None else np.dtype([(name, base)])
    return DType(number, f"DT_{name.upper()}", numpy, field, bounds)


# Bits are given where numpy lacks the type; 0 where the integers only hold its bits.
_ROWS = (
    _row(1, "float", "<f4", "float_val"),
    _row(2, "double", "<f8", "double_val"),
    _row(3, "int32", "<i4", "int_val"),
    _row(4, "uint8", "u1", "int_val"),
    _row(5, "int16", "<i2", "int_val"),
    _row(6, "int8", "i1", "int_val"),
    _row(7, "string", "O", "string_val"),
    _row(8, "complex64", "<c8", "scomplex_val"),
    _row(9, "int64", "<i8", "int64_val"),
    _row(10, "bool", "?", "bool_val"),
    _row(11, "qint8", "i1", "int_val", 8),
    _row(12, "quint8", "u1", "int_val", 8),
    _row(13, "qint32", "<i4", "int_val", 32),
    _row(14, "bfloat16", "<u2", "half_val", 0),
    _row(15, "qint16", "<i2", "int_val", 16),
    _row(16, "quint16", "<u2", "int_val", 16),
    _row(17, "uint16", "<u2", "int_val"),
    _row(18, "complex128", "<c16", "dcomplex_val"),
    _row(19, "half", "<f2", "half_val"),
    _row(22, "uint32", "<u4", "uint32_val"),
    _row(23, "uint64", "<u8", "uint64_val"),
    _row(24, "float8_e5m2", "u1", "float8_val", 0),
    _row(25, "float8_e4m3fn", "u1", "float8_val", 0),
    _row(26, "float8_e4m3fnuz", "u1", "float8_val", 0),
    _row(27, "float8_e4m3b11fnuz", "u1", "float8_val", 0),
    _row(28, "float8_e5m2fnuz", "u1", "float8_val", 0),
    _row(29, "int4", "i1", "int_val", 4),
    _row(30, "uint4", "u1", "int_val", 4),
    _row(31, "int2", "i1", "int_val", 2),
    _row(32, "uint2", "u1", "int_val", 2),
)
BY_NUMBER = {row.number: row for row in _ROWS}
BY_NAME = {row.name: row for row in _ROWS}
BY_NUMPY = {row.numpy: row for row in _ROWS}
STRING, BFLOAT16 = BY_NAME["DT_STRING"], BY_NAME["DT_BFLOAT16"]


def name(number: int) -> str:
    """The name of a dtype, which may be one that cannot be sent (`DT_RESOURCE`)."""
    others = {0: "DT_INVALID", 20: "DT_RESOURCE", 21: "DT_VARIANT"}
    row = BY_NUMBER.get(number)
    return row.name if row else others.get(number, f"DT_{number}")


def own(array: NDArray[Any]) -> DType | None:
    """The type that an array has by itself; None if TensorFlow has none such."""
    row = BY_NUMPY.get(array.dtype.newbyteorder("<"))
    return row or BY_NAME.get(f"DT_{array.dtype.name.upper()}")  # ml_dtypes's names are these


def from_bfloat16(values: NDArray[Any]) -> NDArray[np.float32]:
    """The float32 that each is the upper half of."""
    bits = values.view("<u2").astype("<u4") << 16
    return bits.view("<f4")


def to_bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    """Float32, rounded to the nearest bfloat16, and of two to the even one; NaN stays NaN."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4").reshape(values.shape)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    quiet = bits >> 16 | (bits & 0xFFFF != 0) * np.uint32(0x40)  # a NaN may be in the lower half
    chosen = np.where(np.isnan(values), quiet, rounded)
    return np.asarray(chosen.astype("<u2")).view(BFLOAT16.numpy)
