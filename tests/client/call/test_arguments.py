from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tfserving_client import InvalidInput
from tfserving_client.call.arguments import (
    checked_count,
    checked_headers,
    checked_name,
    checked_seconds,
    checked_version,
)

HUGE = 10**5000  # more digits than Python prints, pytest's names included
_HUGE, _MINUS = pytest.param(HUGE, id="huge"), pytest.param(-HUGE, id="-huge")


@pytest.mark.parametrize("value", [1e-9, 1, 1e6, np.float32(0.5), np.int8(3), Fraction(1, 4)])
def test_seconds_are_real_numbers(value: Any) -> None:
    assert checked_seconds("timeout", value) == value
    assert type(checked_seconds("timeout", value)) is float


@pytest.mark.parametrize(
    "value",
    [0, -1, -0.0, 1e6 + 1, math.nan, math.inf, -math.inf, True, False, None, "1", b"1", 1j, [1],
     np.array(1.0), np.bool_(True), Decimal(1), _HUGE, _MINUS, np.float64("nan"),
     object()],
)  # fmt: skip
def test_other_seconds_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout is .*; expected seconds, more than 0"):
        checked_seconds("timeout", value)


def test_zero_seconds_where_they_are_allowed() -> None:
    assert checked_seconds("wait", 0, zero=True) == 0
    with pytest.raises(InvalidInput, match="0 or more"):
        checked_seconds("wait", -1, zero=True)


@pytest.mark.parametrize("value", [1, np.uint8(200), 2**63 - 1])
def test_counts_and_versions_are_integers(value: Any) -> None:
    for checked in (checked_count("n", value), checked_version(value)):
        assert (checked, type(checked)) == (int(value), int)


@pytest.mark.parametrize(
    "value", [0, -1, 1.0, True, None, "1", np.bool_(True), np.array(1), _MINUS, math.nan]
)
def test_other_counts_and_versions_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^n is"):
        checked_count("n", value)
    with pytest.raises(InvalidInput, match=r"^version is"):
        checked_version(value)


@pytest.mark.parametrize("value", [2**63, _HUGE])
def test_versions_have_64_bits(value: int) -> None:
    assert checked_count("n", value) == value
    with pytest.raises(InvalidInput, match=r"^version is"):
        checked_version(value)


@pytest.mark.parametrize("name", ["mnist", "a/b c", "ü", "数字", "%"])
def test_names_are_printable(name: str) -> None:
    assert checked_name("label", name) == name


@pytest.mark.parametrize("name", ["", "a\n", "\0", "\udcff", "\u2028", None, 5, b"a", ["a"]])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^label is .*; expected a name"):
        checked_name("label", name)


def test_headers_are_copied() -> None:
    headers = {"x-api-key": "se cret", "a_b.c-9": ""}
    checked = checked_headers(headers)
    assert checked == headers
    assert checked is not headers


@pytest.mark.parametrize(
    "name", ["host", "grpc-timeout", "", "A", "a b", "a:", ":path", "ü", "a\n", "x-bin", None, 5]
)
def test_other_header_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^header name is"):
        checked_headers({name: "x"})


@pytest.mark.parametrize(
    "value", ["ü", "secret\n", "\0", "\x7f", "\udcff", None, 5, b"x", " a", "a "]
)
def test_other_header_values_are_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^the value of header 'x' (is not|has)") as refusal:
        checked_headers({"x": value})
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("headers", [5, "ab", [("a", "b")], {"a"}, [{}], True])
def test_headers_are_a_mapping(headers: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^headers are a"):
        checked_headers(headers)


class _Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(HUGE, "an int", id="huge"),
        (_Unspeakable(), "a _Unspeakable"),
        ("x" * 10**6, "xxx"),
        ([1] * 10**4, "1"),
    ],
)
def test_what_cannot_be_printed_or_is_long_is_refused_in_short(value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        checked_seconds("timeout", value)
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_the_values_of_headers_are_not_shown() -> None:
    headers = checked_headers({"x-api-key": "s3cret"})
    assert repr(headers) == "Headers(x-api-key)"
    assert headers["x-api-key"] == "s3cret"
