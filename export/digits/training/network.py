"""The network: always this one."""

from __future__ import annotations

import keras
import numpy as np

from export.digits.subject import CLASSES, SHAPE
from export.errors import InputError


def build() -> keras.Model:
    """Pixels in 0..1, float32 [n, 28, 28] → probabilities, float32 [n, 10].

    Flatten lays the 28 rows of pixels end to end: 784 numbers. Each Dense layer takes weighted sums
    of all its inputs; ReLU, f(x) = max(0, x), keeps the positive ones, which is what makes two
    layers more than one; softmax, exp(x_i) / Σ exp(x_j), turns the last ten into probabilities.
    109,386 numbers are learnt: 784·128 + 128, 128·64 + 64 and 64·10 + 10.
    """
    return keras.Sequential(
        [
            keras.Input(SHAPE, name="pixels"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(len(CLASSES), activation="softmax"),
        ],
        name="digits",
    )


def check(network: keras.Model) -> None:
    """Refuse a network whose answers are no probabilities, before it is trained.

    Raises:
        InputError: it does not answer pixels [n, *SHAPE] with a share for each class, 1 in all.
    """
    pixels = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    answers = np.asarray(network(pixels, training=False))
    if answers.shape != (4, len(CLASSES)):
        raise InputError(
            f"the network answers 4 images with {answers.shape}; expected {(4, len(CLASSES))}"
        )
    sums = answers.sum(axis=1)
    if answers.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise InputError(
            f"the network ends in logits: its outputs lie in {answers.min():.2g}.."
            f"{answers.max():.2g} and sum to {sums[0]:.2g}; expected probabilities: end it with "
            f'keras.layers.Dense({len(CLASSES)}, activation="softmax")'
        )
