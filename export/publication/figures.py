"""Pictures of how a model does, for whatever model has such figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, RED, GREY = "#2563eb", "#dc2626", "#9ca3af"


def confusion(counts: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """How often a class, by row, was called which, by column; counts [classes, classes]."""
    side = max(6.0, 0.45 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    wrong = counts * (1 - np.eye(len(names), dtype=int))  # the colour is for these: they are few
    axes.imshow(wrong, cmap="Reds", vmax=max(1, int(wrong.max())))
    for (shown, called), count in np.ndenumerate(counts):
        if count:
            dark = wrong[shown, called] > 0.6 * wrong.max()
            colour = "white" if dark and shown != called else "black"
            axes.text(called, shown, str(count), ha="center", va="center", color=colour, size=9)
    axes.set(title="How often one was called which", xlabel="called", ylabel="is")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    return figure


def predicted(truth: NDArray[np.floating], answers: NDArray[np.floating], name: str) -> Figure:
    """Answers against the truth, both [n], with the line on which they are the same."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    ends = [float(min(truth.min(), answers.min())), float(max(truth.max(), answers.max()))]
    axes.plot(ends, ends, "--", color=GREY)
    axes.plot(truth, answers, ".", color=BLUE, alpha=0.5)
    axes.set(title=f"{name}: predicted against true", xlabel="true", ylabel="predicted")
    axes.grid(alpha=0.3)
    return figure
