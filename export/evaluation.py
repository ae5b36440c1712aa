"""How good a model is on images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 15  # of equal width over the confidence, as C. Guo et al., "On Calibration", 2017


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One digit: of its images, how many are found; of what is called it, how much is right."""

    digit: int
    images: int
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures over n images.

    Attributes:
        accuracy: share of right answers, 0..1.
        classes: figures of each digit, 0 to 9.
        confusion: row: the digit it is, column: the digit it was called, counts.
        calibration_error: expected calibration error: how far confidence and accuracy lie apart,
            0..1, averaged over `_BINS` bins of confidence weighted by their images.
    """

    accuracy: float
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float


def evaluate(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> Evaluation:
    """Hold answers, float32 [n, 10], against labels, uint8 [n]."""
    answers = probabilities.argmax(axis=1)
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    right, images, called = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return Evaluation(
        float(np.mean(answers == labels)),
        tuple(
            ClassFigures(
                digit,
                int(images[digit]),
                float(right[digit] / max(images[digit], 1)),
                float(right[digit] / max(called[digit], 1)),
            )
            for digit in range(10)
        ),
        tuple(tuple(int(count) for count in row) for row in confusion),
        _calibration_error(probabilities.max(axis=1), answers == labels),
    )


def _calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=right.astype(float) - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(right))
