from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tfserving_client import InvalidInput, Policy
from tfserving_client.call.policy import Budget


@pytest.mark.parametrize("name", ["timeout", "attempt_timeout", "hedge_after"])
@pytest.mark.parametrize(
    "value", [0, -1, math.nan, math.inf, 1e7, "1", True, [1], pytest.param(10**5000, id="huge")]
)
def test_durations_that_cannot_be_meant_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is"):
        Policy(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("attempts", [0, -1, 1.5, True, "1", None, -(10**5000)]),
        ("first_wait", [-1, None, math.nan, False]),
        ("longest_wait", [-1, None, math.nan, False]),
        ("retry_share", [-0.1, 1.1, math.nan, None, "0.1", 1j, [0.1], True, np.zeros(2)]),
        ("timeout", [None]),
    ],
)
def test_other_values_out_of_range_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InvalidInput, match=f"^{name} is"):
            Policy(**{name: value})


def test_numbers_of_every_type_are_numbers() -> None:
    half: Any = Fraction(1, 2)
    policy = Policy(np.float32(2), np.int64(3), half, half, np.float64(1), half, half)  # type: ignore[arg-type]
    assert 0.25 <= next(policy.waits()) <= 0.5
    assert not Policy(first_wait=0, longest_wait=0).first_wait


@pytest.mark.parametrize(("first", "longest"), [(0.05, 2.0), (1.0, 1.0), (5.0, 0.5), (0.0, 2.0)])
def test_waits_double_up_to_the_longest_and_are_shortened_by_up_to_half(
    first: float, longest: float
) -> None:
    policy = Policy(first_wait=first, longest_wait=longest)
    for _ in range(50):
        for i, wait in enumerate(itertools.islice(policy.waits(), 12)):
            full = min(first * 2**i, longest)
            assert full / 2 <= wait <= full


def test_waits_go_on_for_ever_and_differ() -> None:
    waits = Policy().waits()
    assert len({next(waits) for _ in range(3000)}) > 2900
    assert next(waits) <= 2


def test_a_budget_begins_with_a_reserve_earns_a_share_and_saves_no_more() -> None:
    budget = Budget(Policy(retry_share=0.25))
    for _ in range(3):
        assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]
        for _ in range(4):
            assert not budget.spend()
            budget.earn()
        assert budget.spend()
        assert not budget.spend()
        for _ in range(1000):
            budget.earn()


def test_without_a_share_nothing_is_tried_again() -> None:
    budget = Budget(Policy(retry_share=0))
    budget.earn()
    assert not budget.spend()
