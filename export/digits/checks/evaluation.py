"""How good a model is on images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 15  # of equal width over the confidence, as C. Guo et al., "On Calibration", 2017
_MISTAKES = 40  # of the worst


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One digit: of its images, how many are found; of what is called it, how much is right."""

    digit: int
    images: int
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: how many, how sure on average, and how many right."""

    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong answer: the image's index, the digit it is, what it was called, and how surely."""

    image: int
    digit: int
    answer: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures over n images.

    Attributes:
        accuracy: share of right answers, 0..1.
        classes: figures of each digit, in order.
        confusion: row: the digit it is, column: the digit it was called, counts.
        reliability: confidence against accuracy, for each bin of confidence that holds images.
        mistakes: the wrong answers, the most confident first, at most `_MISTAKES`.
    """

    accuracy: float
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: |confidence - accuracy|, 0..1, averaged over all images."""
        gaps = [bin.images * abs(bin.confidence - bin.accuracy) for bin in self.reliability]
        return sum(gaps) / sum(bin.images for bin in self.reliability)


def evaluate(probabilities: NDArray[np.float32], labels: NDArray[np.uint8]) -> Evaluation:
    """Hold answers, float32 [n, classes], against labels, uint8 [n]."""
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    classes = probabilities.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
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
            for digit in range(classes)
        ),
        tuple(tuple(int(count) for count in row) for row in confusion),
        _reliability(confidence, answers == labels),
        _mistakes(answers, confidence, labels),
    )


def _reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    numbers = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    members = [numbers == number for number in np.unique(numbers)]
    return tuple(
        Bin(int(m.sum()), float(confidence[m].mean(dtype=float)), float(right[m].mean()))
        for m in members
    )


def _mistakes(
    answers: NDArray[np.int64], confidence: NDArray[np.float32], labels: NDArray[np.uint8]
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES]
    return tuple(
        Mistake(int(i), int(labels[i]), int(answers[i]), float(confidence[i])) for i in worst
    )
