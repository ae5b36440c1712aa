from __future__ import annotations

import numpy as np
import pytest

from export.digits.checks.evaluation import evaluate

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 500, np.uint8)
PROBABILITIES = RNG.dirichlet(np.ones(10) * 0.3, 500).astype(np.float32)
PROBABILITIES[np.arange(400), LABELS[:400]] += 0.5
PROBABILITIES /= PROBABILITIES.sum(axis=1, keepdims=True)
ANSWERS = PROBABILITIES.argmax(axis=1)


def test_figures_by_their_definitions() -> None:
    evaluation = evaluate(PROBABILITIES, LABELS)
    assert evaluation.accuracy == pytest.approx(np.mean(ANSWERS == LABELS))
    assert [figures.digit for figures in evaluation.classes] == list(range(10))
    for digit, figures in enumerate(evaluation.classes):
        shown, said = np.equal(LABELS, digit), np.equal(ANSWERS, digit)
        assert figures.images == shown.sum()
        assert figures.recall == pytest.approx((shown & said).sum() / shown.sum())
        assert figures.precision == pytest.approx((shown & said).sum() / said.sum())
        for other in range(10):
            assert evaluation.confusion[digit][other] == (shown & (other == ANSWERS)).sum()


def test_calibration_error_by_its_definition() -> None:
    confidence, right = PROBABILITIES.max(axis=1), ANSWERS == LABELS
    expected = 0.0
    for low in np.arange(15) / 15:
        held = (confidence >= low) & (confidence < low + 1 / 15)
        if held.any():
            expected += held.mean() * abs(right[held].mean() - confidence[held].mean())
    assert evaluate(PROBABILITIES, LABELS).calibration_error == pytest.approx(expected, abs=1e-6)


def test_a_perfect_model() -> None:
    evaluation = evaluate(np.eye(10, dtype=np.float32), np.arange(10, dtype=np.uint8))
    assert (evaluation.accuracy, evaluation.calibration_error) == (1.0, 0.0)


def test_a_digit_without_images_counts_as_not_found() -> None:
    evaluation = evaluate(np.eye(10, dtype=np.float32)[:1], np.zeros(1, np.uint8))
    assert evaluation.classes[5].images == 0
    assert evaluation.classes[5].recall == 0.0
