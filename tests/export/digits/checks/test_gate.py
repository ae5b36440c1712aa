from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from export.digits.checks.evaluation import Bin, ClassFigures, Evaluation
from export.digits.checks.gate import Findings, check, floor
from export.digits.checks.pictures import PictureFigures
from export.errors import Refused


def findings(
    *,
    accuracy: float = 0.99,
    newest: float | None = None,
    pictures: Mapping[str, PictureFigures] | None = None,
) -> Findings:
    classes = tuple(ClassFigures(digit, 10, 0.9 + digit / 100, 1.0) for digit in range(10))
    evaluation = Evaluation(accuracy, classes, (), (Bin(10, accuracy, accuracy - 0.004),), ())
    comparison = None if newest is None else (3, newest)
    return Findings(evaluation, comparison, pictures or {})


def test_what_is_good_enough_passes() -> None:
    check(findings(accuracy=0.95), 0.95, 0.0)
    check(findings(accuracy=0.985, newest=0.99), 0.95, 0.005001)


def test_nan_never_passes() -> None:
    for found in (
        findings(accuracy=math.nan),
        findings(newest=math.nan),
    ):
        with pytest.raises(Refused):
            check(found, 0.0, 1.0)


def test_low_accuracy_is_refused_with_both_numbers() -> None:
    with pytest.raises(Refused, match=r"0\.9412.*0\.95"):
        check(findings(accuracy=0.9412), 0.95, 1.0)


def test_less_is_asked_of_few_training_images() -> None:
    assert (floor(55_000), floor(20_000), floor(12_000)) == (0.95, 0.95, 0.9)


def test_a_fall_below_the_newest_is_refused_with_its_number() -> None:
    with pytest.raises(Refused, match=r"0\.9800, and version 3 reaches 0\.9900"):
        check(findings(accuracy=0.98, newest=0.99), 0.0, 0.005)


def test_a_digit_that_is_hardly_recognised_is_refused_by_name() -> None:
    found = findings(accuracy=0.97)  # of its zeros, 0.9 are recognised
    check(found, 0.95, 1.0)
    with pytest.raises(Refused, match=r"10 test images of a 0, 0\.9000 .* asks for 0\.91 of each"):
        check(found, 0.96, 1.0)


def test_findings_are_one_line_for_a_person() -> None:
    line = str(findings(newest=0.985))
    assert line == (
        "test accuracy 0.9900 (version 3: 0.9850), worst digit 0 at 0.9000, "
        "calibration error 0.0040"
    )


@pytest.mark.parametrize(
    ("lost", "won", "passes"), [(0, 0, True), (12, 4, True), (10, 0, False), (60, 9, False)]
)
def test_a_signature_that_reads_pictures_worse_than_arrays_is_refused_by_name(
    lost: int, won: int, passes: bool
) -> None:
    found = findings(pictures={"encoded": PictureFigures(500, 0.9, lost, won)})
    assert "encoded 0.9000 of pictures" in str(found)
    if passes:
        check(found, 0.0, 1.0)
        return
    with pytest.raises(Refused, match=r"encoded reads 0\.9000 of 500 .* dark ink on white"):
        check(found, 0.0, 1.0)
