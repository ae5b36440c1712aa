from __future__ import annotations

import math

import pytest

from export import gate
from export.errors import Refused


def test_what_is_good_enough_passes() -> None:
    gate.check_parity({"serving_default": 1e-5, "encoded": 0.0})
    gate.check_accuracy(0.95, 0.95)
    gate.check_regression(0.985, 3, 0.99, 0.005001)


def test_a_signature_that_answers_otherwise_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"encoded differs by 0\.5"):
        gate.check_parity({"serving_default": 0.0, "encoded": 0.5})


def test_nan_never_passes() -> None:
    with pytest.raises(Refused):
        gate.check_parity({"encoded": math.nan})
    with pytest.raises(Refused):
        gate.check_accuracy(math.nan, 0.0)


def test_low_accuracy_is_refused_with_both_numbers() -> None:
    with pytest.raises(Refused, match=r"0\.9412.*0\.95"):
        gate.check_accuracy(0.9412, 0.95)


def test_a_fall_below_the_newest_is_refused_with_its_number() -> None:
    with pytest.raises(Refused, match=r"0\.9800, and version 3 reaches 0\.9900"):
        gate.check_regression(0.98, 3, 0.99, 0.005)
