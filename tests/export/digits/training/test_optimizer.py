from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from export.digits.training import network
from export.digits.training.optimizer import Rates, build

# The whole rate from the first step on.
STEADY = Rates(peak=0.01, adam=0.5, warmup=0, last=1, averaged=0, decay=0)


def _step(weights: list[keras.Variable], rates: Rates) -> list[NDArray[np.float32]]:
    """How far one step on random gradients moves each of the weights."""
    random = np.random.default_rng(0)
    before = [weight.numpy() for weight in weights]
    gradients = [random.normal(size=weight.shape).astype(np.float32) for weight in weights]
    build(weights, 10, rates).apply(gradients, weights)
    return [now.numpy() - then for now, then in zip(weights, before, strict=True)]


def test_a_step_of_the_larger_matrices_is_orthogonal_and_scaled_by_the_larger_side() -> None:
    first, _, second, *_ = _step(network.build().trainable_variables, STEADY)
    for move, side in ((first, 784), (second, 128)):
        stretched = np.linalg.svd(move, compute_uv=False) / (0.01 * 0.2 * side**0.5)
        # Five steps of Newton and Schulz bring the singular values of any matrix near to 1.
        assert 0.6 < stretched.min() < stretched.max() < 1.25


def test_the_last_matrix_and_all_biases_are_adams() -> None:
    _, first, _, second, *last = _step(network.build().trainable_variables, STEADY)
    for move in (first, second, *last):
        # Adam's first step is the rate, whatever the gradient's size.
        assert np.abs(move) == pytest.approx(0.005, rel=0.01)


def test_what_is_no_matrix_is_adams() -> None:
    convolution = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Conv2D(4, 5), keras.layers.Softmax()]
    )
    for move in _step(convolution.trainable_variables, STEADY):
        assert np.abs(move) == pytest.approx(0.005, rel=0.01)


def test_all_weights_decay_by_the_rate() -> None:
    weights = [keras.Variable(np.full(shape, 2.0, np.float32)) for shape in ((9, 5), (5, 3), (3,))]
    rates = Rates(peak=0.01, warmup=0, last=1, averaged=0, decay=0.5)
    build(weights, 10, rates).apply([np.zeros(w.shape, np.float32) for w in weights], weights)
    for weight in weights:
        assert weight.numpy() == pytest.approx(2 * (1 - 0.01 * 0.5))


def test_the_rate_rises_then_falls_to_what_is_left() -> None:
    weights = [keras.Variable(np.zeros((1,), np.float32))]
    optimizer = build(weights, 100, Rates(peak=0.02, adam=1, warmup=0.1, last=0.05))
    seen = []
    for _ in range(100):
        seen.append(float(optimizer.learning_rate))
        optimizer.apply([np.ones((1,), np.float32)], weights)
    assert seen[0] == 0
    assert max(seen) == seen[10] == pytest.approx(0.02)
    assert seen[-1] == pytest.approx(0.02 * 0.05, rel=0.02)
    assert np.all(np.diff(seen[:11]) > 0)
    assert np.all(np.diff(seen[10:]) < 0)


def test_in_the_end_the_weights_are_their_moving_average() -> None:
    weights = [keras.Variable(np.zeros((1,), np.float32))]
    optimizer = build(weights, 100, Rates(peak=0.01, warmup=0, last=1, averaged=0.02, decay=0))
    seen, expected = [], 0.0
    for step in range(5):
        optimizer.apply([np.ones((1,), np.float32)], weights)
        seen.append(float(weights[0].numpy()[0]))
        expected = seen[-1] if step == 0 else (expected + seen[-1]) / 2  # it reaches back 2 steps
    optimizer.finalize_variable_values(weights)
    assert weights[0].numpy()[0] == pytest.approx(expected)
    assert expected != pytest.approx(seen[-1], rel=0.05)
