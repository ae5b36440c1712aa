"""The figures of `export/INTRODUCTION.md`: `make figures` draws them again."""

from __future__ import annotations

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from export.digits.data import sources as data
from export.digits.training import network
from export.digits.training import recipes as training
from export.figures.svg import save

_BLUE, _RED, _GREEN, _GREY = "#2563eb", "#dc2626", "#16a34a", "#9ca3af"


def main() -> None:
    """Draw all figures as SVG files next to this one."""
    figures = {"activations.svg": _activations(), "softmax.svg": _softmax(), "walk.svg": _walk()}
    for name, figure in figures.items():
        save(figure, name)


def _activations() -> Figure:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    functions, bent = figure.subplots(1, 2)
    x = np.linspace(-4, 4, 201)
    functions.plot(x, np.maximum(0, x), color=_BLUE, linewidth=2, label="ReLU: max(0, x)")
    functions.plot(x, np.tanh(x), color=_GREEN, label="tanh: (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)")
    functions.plot(x, 1 / (1 + np.exp(-x)), color=_RED, label="sigmoid: 1 / (1 + e⁻ˣ)")
    functions.set(title="Activation functions", xlabel="x", ylabel="f(x)", ylim=(-1.4, 3))
    _cross(functions)

    parts = {"ReLU(x + 2)": (1, -2), "−2 · ReLU(x)": (-2, 0), "ReLU(x − 2)": (1, 2)}
    for label, (weight, knee) in parts.items():
        bent.plot(x, weight * np.maximum(0, x - knee), "--", color=_GREY, linewidth=1)
        end = np.clip(weight * (3.9 - knee), -3.6, 3.6)
        bent.annotate(label, (3.9, end), ha="right", va="bottom", size=8, color="#4b5563")
    hat = sum(weight * np.maximum(0, x - knee) for weight, knee in parts.values())
    bent.plot(x, hat, color=_BLUE, linewidth=2, label="their sum")
    bent.set(title="Three ReLUs add up to a bump; straight lines never do", xlabel="x")
    bent.set_ylim(-4, 4.5)
    _cross(bent)
    return figure


def _softmax() -> Figure:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    sums, shares, curve = figure.subplots(1, 3)
    values = np.array([2.0, 1.0, 0.0])
    probabilities = np.exp(values) / np.exp(values).sum()
    names = ["a", "b", "c"]
    sums.bar(names, values, color=_GREY)
    sums.set(title="Sums go in …", ylim=(0, 2.4))
    sums.bar_label(sums.containers[0], fmt="%.0f")
    shares.bar(names, probabilities, color=_BLUE)
    shares.set(title="… probabilities come out", ylim=(0, 1))
    shares.bar_label(shares.containers[0], fmt="%.2f")
    x = np.linspace(-4, 6, 201)
    rivals = np.exp(values[1:]).sum()
    curve.plot(x, np.exp(x) / (np.exp(x) + rivals), color=_BLUE, linewidth=2)
    curve.plot([2], probabilities[:1], "o", color=_BLUE)
    curve.set(title="a's probability as its sum changes", xlabel="a's sum", ylim=(0, 1))
    curve.grid(alpha=0.3)
    return figure


def _walk() -> Figure:
    """A digit on its way through a network that was trained for a few seconds."""
    dataset = data.load("digits")
    recipe = training.recipe("fast", len(dataset.train))
    keras.utils.set_random_seed(recipe.seed)
    model = network.build()
    training.train(model, dataset, recipe, lambda _: None)
    image = dataset.test.images[int(np.flatnonzero(dataset.test.labels == 3)[0])]
    stages = [layer.output for layer in model.layers]
    values = keras.Model(model.inputs, stages)(image[np.newaxis] / 255.0, training=False)
    pixels, hidden, narrow, probabilities = (value.numpy()[0] for value in values)

    figure = Figure(figsize=(11, 3), layout="constrained")
    axes = figure.subplots(1, 5, width_ratios=[1.2, 0.5, 1.2, 0.9, 1.3])
    _tiles(axes[0], image, "28 × 28 pixels")
    _tiles(axes[1], pixels[:, np.newaxis], "Flatten: 784", aspect="auto")
    _tiles(axes[2], hidden.reshape(8, 16).T, "Dense 128, ReLU", cmap="Blues")
    _tiles(axes[3], narrow.reshape(8, 8), "Dense 64, ReLU", cmap="Blues")
    axes[4].barh(range(10), probabilities, color=_BLUE)
    axes[4].set(title="Dense 10, softmax", xlim=(0, 1), xlabel="probability")
    axes[4].set_yticks(range(10))
    axes[4].invert_yaxis()
    return figure


def _tiles(
    axes: Axes, values: NDArray[np.generic], title: str, cmap: str = "gray", aspect: str = "equal"
) -> None:
    axes.imshow(values, cmap=cmap, aspect=aspect)  # type: ignore[arg-type]
    axes.set_title(title, size=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _cross(axes: Axes) -> None:
    axes.axhline(0, color="black", linewidth=0.6)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)


if __name__ == "__main__":
    main()
