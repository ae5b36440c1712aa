from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from tfserving_client.tensors import dtypes

HALVES = np.arange(1 << 16, dtype=np.uint16)  # every bfloat16 there is


def test_numbers_and_names_are_tensorflows() -> None:
    for number, row in dtypes.BY_NUMBER.items():
        assert types_pb2.DataType.Name(number) == row.name == dtypes.name(number)
        assert tf.as_dtype(number).name == row.name[3:].lower().replace("float", "float32") or (
            tf.as_dtype(number).name in {row.name[3:].lower(), "float16", "float64"}
        )
    assert (dtypes.name(20), dtypes.name(99)) == ("DT_RESOURCE", "DT_99")


def test_every_bfloat16_is_a_float32_and_back() -> None:
    singles = dtypes.from_bfloat16(HALVES)
    theirs = HALVES.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(singles, theirs, equal_nan=True)
    assert np.array_equal(dtypes.to_bfloat16(singles).view(np.uint16), HALVES)


def test_float32_is_rounded_to_the_nearest_bfloat16_as_ml_dtypes_does() -> None:
    singles = np.random.default_rng(3).integers(0, 1 << 32, 100_000, np.uint32).view(np.float32)
    ours = dtypes.to_bfloat16(singles).view(np.uint16)
    with np.errstate(invalid="ignore"):
        theirs = singles.astype(ml_dtypes.bfloat16).view(np.uint16)
    is_nan = np.isnan(singles)
    assert np.array_equal(ours[~is_nan], theirs[~is_nan])
    assert np.isnan(dtypes.from_bfloat16(ours[is_nan])).all()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("<f4", "DT_FLOAT"), (">f4", "DT_FLOAT"), ("?", "DT_BOOL"), ("<f2", "DT_HALF"),
        (ml_dtypes.bfloat16, "DT_BFLOAT16"), (ml_dtypes.float8_e5m2, "DT_FLOAT8_E5M2"),
        (ml_dtypes.int4, "DT_INT4"), (tf.qint8.as_numpy_dtype, "DT_QINT8"),
    ],
)  # fmt: skip
def test_an_array_knows_its_type(given: object, name: str) -> None:
    row = dtypes.own(np.zeros(2, given))  # type: ignore[call-overload]
    assert row is not None
    assert row.name == name


def test_what_tensorflow_has_not_is_none() -> None:
    assert dtypes.own(np.zeros(2, "M8[s]")) is None
    assert dtypes.own(np.zeros(2, np.longdouble)) is None
