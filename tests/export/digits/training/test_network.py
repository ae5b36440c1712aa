from __future__ import annotations

import keras
import pytest

from export.digits.training import network
from export.errors import InputError


def _ending(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), *layers])


def test_the_network_answers_with_probabilities() -> None:
    network.check(network.build())
    network.check(_ending(keras.layers.Dense(10), keras.layers.Softmax()))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (keras.layers.Dense(10), "ends in logits: its outputs lie in "),
        (keras.layers.Dense(10, activation="sigmoid"), "expected probabilities: end it with keras"),
        (keras.layers.Dense(9, activation="softmax"), r"with \(4, 9\); expected \(4, 10\)"),
    ],
)
def test_another_end_is_told_before_training(last: keras.Layer, words: str) -> None:
    with pytest.raises(InputError, match=words):
        network.check(_ending(last))
