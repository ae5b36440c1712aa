from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfserving_client import InvalidInput, Signature, TensorSpec
from tfserving_client.tensors import dtypes
from tfserving_client.tensors.conversion import as_they_are, conformed

INTEGERS = ["DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64", "DT_UINT8", "DT_UINT16", "DT_UINT32",
            "DT_UINT64", "DT_QINT8", "DT_QUINT16", "DT_INT4", "DT_UINT4", "DT_INT2"]  # fmt: skip


def made(value: Any, dtype: str, shape: tuple[int | None, ...] | None = (None,)) -> Any:
    signature = Signature({"x": TensorSpec(dtype, shape)}, {})
    (array,) = conformed("serving_default", signature, value).values()
    row = dtypes.BY_NAME[dtype]
    assert array.dtype == row.numpy
    return array.view(row.plain)


def refusal(value: Any, dtype: str, shape: tuple[int | None, ...] | None = (None,)) -> str:
    with pytest.raises(InvalidInput) as refused:
        made(value, dtype, shape)
    words = str(refused.value)
    assert "\n" not in words
    return words


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_taken_to_their_bounds_and_no_further(dtype: str) -> None:
    bounds = dtypes.BY_NAME[dtype].bounds
    assert bounds is not None
    low, high = bounds
    assert made([low, high], dtype).tolist() == [low, high]
    assert made([low, 0, high], dtype).tolist() == [low, 0, high]
    assert made(np.array([True]), dtype).tolist() == [1] or low < 0
    short = f"{dtype} is {low}..{high}"
    assert refusal([low - 1], dtype) == f"input 'x' holds {low - 1}; {short}"
    assert refusal([0, high + 1], dtype) == f"input 'x' holds {high + 1}; {short}"


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "DT_FLOAT", [1, 2]),
        ([0.1], "DT_FLOAT", [np.float32(0.1)]),
        (np.array([0.1]), "DT_FLOAT", [np.float32(0.1)]),
        (np.array([1, 2], ">i4"), "DT_INT32", [1, 2]),
        (np.array([1.5], ">f8"), "DT_FLOAT", [1.5]),
        ([True, False], "DT_BOOL", [True, False]),
        ([1, 0], "DT_BOOL", [True, False]),
        ([2**70], "DT_DOUBLE", [2.0**70]),
        (np.array([1.5, 2, np.float32(0.5)], object), "DT_FLOAT", [1.5, 2, 0.5]),
        (np.array([1, np.uint8(2)], object), "DT_INT64", [1, 2]),
        (np.array([1, np.uint8(2)], object), "DT_FLOAT", [1, 2]),
        ([1 + 2j], "DT_COMPLEX64", [1 + 2j]),
        ([1.5], "DT_COMPLEX128", [1.5]),
        ([float("inf"), -float("inf")], "DT_HALF", [np.inf, -np.inf]),
        ([], "DT_INT64", []),
        (range(3), "DT_UINT8", [0, 1, 2]),
        ((1, 2), "DT_INT8", [1, 2]),
        (np.array([1.5], ml_dtypes.bfloat16), "DT_FLOAT", [1.5]),
        (np.array([1.5], np.float16), "DT_FLOAT", [1.5]),
        (np.array([3], ml_dtypes.int4), "DT_INT4", [3]),
        ([1.5], "DT_BFLOAT16", [0x3FC0]),
        (np.array([1.5], ml_dtypes.bfloat16), "DT_BFLOAT16", [0x3FC0]),
        (["Graz", b"Linz\0"], "DT_STRING", [b"Graz", b"Linz\0"]),
        (np.array(["Wörgl"]), "DT_STRING", ["Wörgl".encode()]),
        (np.array([b"a", b"bc"]), "DT_STRING", [b"a", b"bc"]),
    ],
)  # fmt: skip
def test_values_are_converted_where_that_loses_nothing(
    value: Any, dtype: str, expected: list[Any]
) -> None:
    assert made(value, dtype).tolist() == expected


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        ([1.0], "DT_INT64", "input 'x' holds floats; the model takes DT_INT64"),
        (np.array([1.0]), "DT_UINT8", "input 'x' holds floats; the model takes DT_UINT8"),
        ([2**24 + 1], "DT_FLOAT", "input 'x' holds 16777217, which DT_FLOAT cannot hold"),
        ([2**63 - 1], "DT_DOUBLE", f"input 'x' holds {2**63 - 1}, which DT_DOUBLE cannot hold"),
        ([2**64 - 1], "DT_DOUBLE", f"input 'x' holds {2**64 - 1}, which DT_DOUBLE cannot hold"),
        ([2**70 + 1], "DT_DOUBLE", f"input 'x' holds {2**70 + 1}, which DT_DOUBLE cannot hold"),
        ([10**400], "DT_DOUBLE", "input 'x' holds an integer that DT_DOUBLE cannot hold"),
        (np.array([1, 0.5], object), "DT_INT64", "input 'x' holds floats; the model takes"),
        ([10**400, 0.5], "DT_DOUBLE", "input 'x' holds "),
        ([1e39], "DT_FLOAT", "input 'x' holds 1e+39, which DT_FLOAT cannot hold"),
        ([70000], "DT_HALF", "input 'x' holds 70000, which DT_HALF cannot hold"),
        ([257], "DT_BFLOAT16", "input 'x' holds 257, which DT_BFLOAT16 cannot hold"),
        ([3.4e38], "DT_BFLOAT16", "input 'x' holds 3.4e+38, which DT_BFLOAT16 cannot hold"),
        ([1j], "DT_FLOAT", "input 'x' holds complex numbers; the model takes DT_FLOAT"),
        ([2], "DT_BOOL", "input 'x' holds 2; DT_BOOL is 0..1"),
        ([1.0], "DT_BOOL", "input 'x' holds floats; the model takes DT_BOOL"),
        (["1"], "DT_INT64", "input 'x' holds text; the model takes DT_INT64"),
        ([1, None], "DT_INT64", "input 'x' holds None, a NoneType, among its numbers"),
        ([Fraction(1, 2)], "DT_FLOAT", "input 'x' holds Fraction(1, 2), a Fraction, among its"),
        (np.array(["2026-01-01"], "M8[D]"), "DT_INT64", "input 'x' holds dates; the model takes"),
        ([1], "DT_STRING", "input 'x' holds 1, an int; expected text or bytes"),
        ([None], "DT_STRING", "input 'x' holds None, a NoneType; expected text or bytes"),
        (["\udc80"], "DT_STRING", "input 'x' holds '\\udc80', no valid text"),
        ([0.5], "DT_FLOAT8_E5M2", "input 'x' holds floats; the model takes DT_FLOAT8_E5M2"),
        ([[1], [2, 3]], "DT_INT64", "input 'x' has lists of different lengths; expected an array"),
        ([["a"], ["b", "c"]], "DT_STRING", "input 'x' has lists of different lengths; expected"),
        (np.ma.masked_equal([1, 2], 2), "DT_INT64", "input 'x' has masked values; fill them"),
        ([[1]], "DT_INT64", "input 'x' has shape (1, 1); expected (n,)"),
        (3, "DT_INT64", "input 'x' has shape (); expected (n,)"),
    ],
)
def test_what_would_lose_something_is_refused_in_one_sentence(
    value: Any, dtype: str, words: str
) -> None:
    assert refusal(value, dtype).startswith(words)


def test_a_data_frame_is_its_columns_or_where_there_is_one_input_an_array() -> None:
    table = pandas.DataFrame({"rooms": [3, 4], "city": ["Graz", "Linz"]})
    row = TensorSpec("DT_INT64", (None,))
    two = Signature({"rooms": row, "city": TensorSpec("DT_STRING", (None,))}, {})
    inputs = conformed("serving_default", two, table)
    assert {alias: array.tolist() for alias, array in inputs.items()} == {
        "rooms": [3, 4],
        "city": [b"Graz", b"Linz"],
    }
    one = Signature({"x": TensorSpec("DT_INT64", (None, 1))}, {})
    assert conformed("serving_default", one, table[["rooms"]])["x"].tolist() == [[3], [4]]


@pytest.mark.parametrize("shape", [(None, 3), (2, 3), None])
def test_sizes_that_the_signature_names_are_checked(shape: tuple[int | None, ...] | None) -> None:
    assert made([[1, 2, 3], [4, 5, 6]], "DT_INT64", shape).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "words"), [((None, 2), "(n, 2)"), ((3, None), "(3, n)"), ((), "()"), ((2,), "(2,)")]
)
def test_other_sizes_are_refused(shape: tuple[int | None, ...], words: str) -> None:
    told = refusal([[1, 2, 3], [4, 5, 6]], "DT_INT64", shape)
    assert told == f"input 'x' has shape (2, 3); expected {words}"


def test_an_array_of_the_right_dtype_is_not_copied() -> None:
    array = np.zeros((2, 3), np.float32)
    assert np.shares_memory(made(array, "DT_FLOAT", (None, 3)), array)


def test_every_float32_survives_a_float64() -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 32, 10_000, np.uint32)
    floats = bits.view(np.float32)
    finite = floats[np.isfinite(floats)]
    assert np.array_equal(made(finite.astype(np.float64), "DT_FLOAT"), finite)
    assert np.array_equal(made(finite.tolist(), "DT_FLOAT"), finite)


def test_any_float_becomes_any_other_without_a_warning() -> None:
    odd = np.array([0x7FF0000000000001, 0xFFF0000000000001], np.uint64)  # NaN that signal
    doubles = np.concatenate([odd.view(np.float64), [5e-324, -1e-300, 65504.0, np.inf]])
    for dtype in ("DT_FLOAT", "DT_HALF", "DT_BFLOAT16", "DT_COMPLEX64", "DT_DOUBLE"):
        assert made(doubles, dtype).shape == (6,)


TWO = Signature(
    {"a": TensorSpec("DT_INT64", (None,)), "b": TensorSpec("DT_FLOAT", ())}, {}, optional=("b",)
)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([1], "signature 's' takes 2 inputs, a and b; expected a mapping of their names to values"),
        ({"a": [1], "c": 2}, "signature 's' has no input 'c'; it takes a and b"),
        ({"a": [1], 3: 2}, "signature 's' has no input 3; it takes a and b"),
        ({"b": 2}, "input 'a' of signature 's' is missing; it takes a and b"),
    ],
)
def test_inputs_are_told_by_name(inputs: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        conformed("s", TWO, inputs)
    assert str(refused.value).startswith(words)


def test_a_signature_may_have_no_inputs() -> None:
    assert conformed("s", Signature({}, {}), {}) == {}
    for inputs in ({"a": 1}, [1]):
        with pytest.raises(InvalidInput, match="nothing"):
            conformed("s", Signature({}, {}), inputs)


def test_an_input_with_a_default_may_be_left_out() -> None:
    assert list(conformed("s", TWO, {"a": [1]})) == ["a"]


def test_a_dtype_that_cannot_be_sent() -> None:
    with pytest.raises(InvalidInput, match="input 'x' is DT_RESOURCE, which cannot be sent"):
        conformed("s", Signature({"x": TensorSpec("DT_RESOURCE", ())}, {}), 1)


def test_raw_arrays_stay_what_they_are() -> None:
    inputs = {"a": np.zeros(2, ">f4"), "b": ["x"], "c": np.zeros(1, ml_dtypes.bfloat16), "d": 3}
    found = as_they_are(inputs)
    kinds = [(array.dtype, array.shape) for array in found.values()]
    assert kinds == [
        (np.dtype("<f4"), (2,)), (np.dtype(object), (1,)),
        (np.dtype([("bfloat16", "<u2")]), (1,)), (np.dtype("<i8"), ()),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="raw=True expects a mapping"):
        as_they_are([1])
    with pytest.raises(InvalidInput, match="dtype datetime64"):
        as_they_are({"a": np.zeros(1, "M8[s]")})


class Broken:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("disk\non fire")


def test_a_callers_own_object_may_raise_anything() -> None:
    assert refusal(Broken(), "DT_FLOAT").startswith("input 'x', a Broken, cannot be read:")


def test_pandas_like_columns_are_arrays() -> None:
    class Column:
        def __array__(self, *_: Any, **__: Any) -> Any:
            return np.array([1, 2])

    assert made(Column(), "DT_FLOAT").tolist() == [1, 2]


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3) | st.complex_numbers() | st.dates() | st.decimals() | st.fractions()
    | st.sampled_from([object(), int, ..., set(), {}, bytearray(b"a"), memoryview(b"ab"), iter([1]),
                       np.float32(3e38), np.datetime64("NaT"), np.void(b"abc"), np.str_("a"),
                       np.array([1, 2]), np.zeros((2, 0)), np.array("x"), np.int64(-1), range(3),
                       np.zeros(2, [("a", "i4"), ("b", "f4")]), np.array(object(), object)])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


def _outcome(take: Callable[[Any], dict[str, Any]], value: Any) -> Any:
    """The array's dtype, or the words of the refusal."""
    try:
        (array,) = take({"x": value}).values()
    except InvalidInput as refusal:
        return str(refusal)
    return array.dtype


@settings(max_examples=settings().max_examples * 2)
@given(VALUES, st.sampled_from(sorted(dtypes.BY_NAME)))
def test_whatever_is_given_is_an_array_or_refused_in_one_line(value: Any, dtype: str) -> None:
    signature = Signature({"x": TensorSpec(dtype, None)}, {})
    for take in (partial(conformed, "s", signature), as_they_are):
        outcome = _outcome(take, value)
        if isinstance(outcome, str):
            assert outcome.startswith("input 'x' ")
            assert "\n" not in outcome
        else:
            assert outcome in dtypes.BY_NUMPY
