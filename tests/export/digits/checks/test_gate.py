from __future__ import annotations

import math

import pytest

from export.digits.checks.evaluation import Bin, ClassFigures, Evaluation
from export.digits.checks.gate import Comparison, Findings, check
from export.errors import Refused


def _findings(*, accuracy: float = 0.99, newest: float | None = None, **parity: float) -> Findings:
    classes = tuple(ClassFigures(digit, 10, 0.9 + digit / 100, 1.0) for digit in range(10))
    evaluation = Evaluation(accuracy, classes, (), (Bin(10, accuracy, accuracy - 0.004),), ())
    comparison = None if newest is None else Comparison(3, newest)
    return Findings({}, parity or {"serving_default": 0.0}, evaluation, comparison)


def test_what_is_good_enough_passes() -> None:
    check(_findings(accuracy=0.95), 0.95, 0.0)
    check(_findings(accuracy=0.985, newest=0.99), 0.95, 0.005001)
    check(_findings(serving_default=1e-5, encoded=0.0), 0.95, 0.0)


def test_a_signature_that_answers_otherwise_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"encoded differs by 0\.5"):
        check(_findings(serving_default=0.0, encoded=0.5), 0.0, 1.0)


def test_nan_never_passes() -> None:
    for findings in (
        _findings(encoded=math.nan),
        _findings(accuracy=math.nan),
        _findings(newest=math.nan),
    ):
        with pytest.raises(Refused):
            check(findings, 0.0, 1.0)


def test_low_accuracy_is_refused_with_both_numbers() -> None:
    with pytest.raises(Refused, match=r"0\.9412.*0\.95"):
        check(_findings(accuracy=0.9412), 0.95, 1.0)


def test_a_fall_below_the_newest_is_refused_with_its_number() -> None:
    with pytest.raises(Refused, match=r"0\.9800, and version 3 reaches 0\.9900"):
        check(_findings(accuracy=0.98, newest=0.99), 0.0, 0.005)


def test_a_digit_that_is_hardly_recognised_is_refused_by_name() -> None:
    findings = _findings(accuracy=0.97)  # of its zeros, 0.9 are recognised
    check(findings, 0.95, 1.0)
    with pytest.raises(Refused, match=r"10 test images of a 0, 0\.9000 .* asks for 0\.91 of each"):
        check(findings, 0.96, 1.0)


def test_findings_are_one_line_for_a_person() -> None:
    line = str(_findings(newest=0.985, encoded=2e-7))
    assert line == (
        "test accuracy 0.9900 (version 3: 0.9850), worst digit 0 at 0.9000, "
        "calibration error 0.0040, served answers within 2e-07 of the network's"
    )
