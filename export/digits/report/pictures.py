"""What a version learnt and where it errs, as pictures next to its model card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from export.digits.checks.evaluation import Evaluation
from export.digits.data.sources import Split
from export.digits.subject import CLASSES
from export.digits.training.recipes import EpochReport
from export.publication import figures
from export.publication.figures import BLUE, GREY, RED

_ACROSS = 10  # mistakes side by side


def draw(epochs: Sequence[EpochReport], evaluation: Evaluation, test: Split) -> dict[str, Figure]:
    """Four figures, by the name of their file.

    `curves.png`: loss and accuracy, epoch by epoch. `confusion.png`: which digit was called which.
    `mistakes.png`: the most confident wrong answers. `calibration.png`: confidence and accuracy.

    Args:
        epochs: how training went.
        evaluation: figures over the test images.
        test: those images.
    """
    return {
        "curves.png": _curves(epochs),
        "confusion.png": figures.confusion(np.array(evaluation.confusion), CLASSES),
        "mistakes.png": _mistakes(evaluation, test),
        "calibration.png": _calibration(evaluation),
    }


def _curves(epochs: Sequence[EpochReport]) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    numbers = [report.epoch for report in epochs]
    style = "o-" if len(epochs) < 2 else "-"  # one epoch alone would be no line
    losses.plot(numbers, [r.loss for r in epochs], style, color=GREY, label="in training")
    losses.plot(
        numbers, [r.validation_loss for r in epochs], style, color=BLUE, label="on validation"
    )
    losses.set(title="Loss (cross-entropy)", xlabel="epoch", ylabel="nats", yscale="log")
    losses.legend()
    accuracies.plot(numbers, [r.validation_accuracy for r in epochs], style, color=BLUE)
    accuracies.set(title="Accuracy on validation images", xlabel="epoch")
    accuracies.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure


def _mistakes(evaluation: Evaluation, test: Split) -> Figure:
    rows = max(1, -(-len(evaluation.mistakes) // _ACROSS))
    figure = Figure(figsize=(_ACROSS, 1.4 * rows + 0.4))
    figure.suptitle("The surest wrong answers: is → called (probability)", size=11)
    # One drawing area with a cell for each; areas of their own would take a second of export.
    axes = figure.add_axes((0, 0, 1, 1.4 * rows / (1.4 * rows + 0.4)))
    axes.axis("off")
    for i, mistake in enumerate(evaluation.mistakes):
        left, top = i % _ACROSS, 1.4 * (i // _ACROSS)
        cell = (left + 0.05, left + 0.95, top + 1.2, top + 0.3)
        axes.imshow(test.images[mistake.image], cmap="gray_r", extent=cell, aspect="auto")
        told = f"{CLASSES[mistake.digit]} → {CLASSES[mistake.answer]} ({mistake.confidence:.2f})"
        axes.text(left + 0.5, top + 0.2, told, size=8, color=RED, ha="center")
    axes.set(xlim=(0, _ACROSS), ylim=(1.4 * rows, 0))  # which each image changes
    return figure


def _calibration(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(6, 6), layout="constrained")
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = evaluation.reliability
    confidence = [bin.confidence for bin in bins]
    curve.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    curve.plot(confidence, [bin.accuracy for bin in bins], "o-", color=BLUE, label="this version")
    curve.set(
        title=f"Expected calibration error {evaluation.calibration_error:.4f}",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    curve.legend()
    counts.bar(confidence, [bin.images for bin in bins], width=0.04, color=BLUE)
    counts.set(xlabel="confidence", ylabel="images", yscale="log")
    return figure
