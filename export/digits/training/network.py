"""The network: always this one."""

from __future__ import annotations

import keras


def build() -> keras.Model:
    """Pixels in 0..1, float32 [n, 28, 28] → probabilities, float32 [n, 10].

    Flatten lays the 28 rows of pixels end to end: 784 numbers. Each Dense layer takes weighted sums
    of all its inputs; ReLU, f(x) = max(0, x), keeps the positive ones, which is what makes two
    layers more than one; softmax, exp(x_i) / Σ exp(x_j), turns the last ten into probabilities.
    109,386 numbers are learnt: 784·128 + 128, 128·64 + 64 and 64·10 + 10.
    """
    return keras.Sequential(
        [
            keras.Input((28, 28), name="pixels"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
