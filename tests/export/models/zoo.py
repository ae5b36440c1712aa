"""Ten kinds of models that people have, none of them trained, and rows for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tests.export.models.own_layers import Scale, TwoTowers, bumpy

ROWS = 70
LAYERS = keras.layers


class Specimen(NamedTuple):
    """A model, samples for it, and the inputs and outputs that its signature must have."""

    model: keras.Model
    samples: dict[str, Any]
    inputs: set[str]
    outputs: set[str]
    more: tuple[str, ...] = ()


def _random() -> np.random.Generator:
    return np.random.default_rng(3)


def dense() -> Specimen:
    model = keras.Sequential(
        [
            keras.Input((4,), name="flower"),
            LAYERS.Dense(3, activation="softmax", name="species"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    samples = {"flower": _random().random((ROWS, 4)), "y": _random().integers(0, 3, ROWS)}
    return Specimen(model, samples, {"flower"}, {"species"})


def convolution() -> Specimen:
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3), name="image", dtype="uint8"),
            LAYERS.Rescaling(1 / 255),
            LAYERS.Conv2D(4, 3, activation="relu"),
            LAYERS.BatchNormalization(),
            LAYERS.GlobalAveragePooling2D(),
            LAYERS.Dropout(0.5),
            LAYERS.Dense(5, activation="softmax", name="kind"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = _random().integers(0, 256, (ROWS, 32, 32, 3), np.uint8)
    return Specimen(model, {"x": images, "y": np.arange(ROWS) % 5}, {"image"}, {"kind"})


def recurrent() -> Specimen:
    model = keras.Sequential(
        [keras.Input((None, 2), name="series"), LAYERS.LSTM(4), LAYERS.Dense(1, name="next")]
    )
    return Specimen(model, {"series": _random().random((ROWS, 6, 2))}, {"series"}, {"next"})


def embedding() -> Specimen:
    words = ["Graz", "Linz", "Wörgl"]
    city = keras.Input((1,), name="city", dtype="string")
    numbers = LAYERS.StringLookup(vocabulary=words)(city)
    flat = LAYERS.Flatten()(LAYERS.Embedding(4, 3)(numbers))
    model = keras.Model(city, LAYERS.Dense(1, name="price")(flat))
    model.compile("adam", "mse", metrics=["mae"])
    samples = {"city": np.array(words)[np.arange(ROWS) % 3], "y": _random().random(ROWS)}
    return Specimen(model, samples, {"city"}, {"price"})


def normalised() -> Specimen:
    scaled = LAYERS.Normalization(mean=[10.0, -3.0], variance=[4.0, 1.0])
    model = keras.Sequential(
        [keras.Input((2,), name="sizes in m"), scaled, LAYERS.Dense(1, name="dense")]
    )
    model.compile("adam", "mse", metrics=["mean_absolute_error"])
    samples = {"x": _random().random((ROWS, 2)), "y": 1e4 * _random().random(ROWS)}
    return Specimen(model, samples, {"sizes in m"}, {"dense"})


def several_outputs() -> Specimen:
    size, seats = keras.Input((2,), name="size"), keras.Input((1,), name="seats", dtype="int32")
    both = LAYERS.Concatenate()([size, LAYERS.Rescaling(0.1)(seats)])
    price = LAYERS.Dense(1, name="price")(both)
    kind = LAYERS.Dense(3, activation="softmax", name="kind")(both)
    model = keras.Model([size, seats], [price, kind])
    model.compile("adam", ["mae", "sparse_categorical_crossentropy"], metrics=[["mse"], ["acc"]])
    samples = {
        "size": _random().random((ROWS, 2), np.float32),
        "seats": _random().integers(1, 9, ROWS),
        "y_price": _random().random(ROWS),
        "y_kind": _random().integers(0, 3, ROWS),
    }
    return Specimen(model, samples, {"size", "seats"}, {"price", "kind"})


def subclassed() -> Specimen:
    model = TwoTowers()
    samples = {name: _random().random((ROWS, 4), np.float32) for name in "ab"}
    model({name: tf.constant(values) for name, values in samples.items()})
    more = ("--import=tests.export.models.own_layers",)
    return Specimen(model, samples, {"a", "b"}, {"sum", "difference"}, more)


def logits() -> Specimen:
    model = keras.Sequential([keras.Input((4,), name="flower"), LAYERS.Dense(3, name="logits")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["sparse_categorical_accuracy"])
    samples = {"flower": _random().random((ROWS, 4)), "y": _random().integers(0, 3, ROWS)}
    return Specimen(model, samples, {"flower"}, {"logits"})


def half_precision() -> Specimen:
    layers = [LAYERS.Dense(64, activation="relu", dtype="mixed_float16") for _ in range(2)]
    last = LAYERS.Dense(1, name="level", dtype="mixed_float16")
    model = keras.Sequential([keras.Input((8,), name="signal"), *layers, last])
    return Specimen(model, {"signal": _random().random((ROWS, 8))}, {"signal"}, {"level"})


def own_layer() -> Specimen:
    model = keras.Sequential([keras.Input((2,), name="x"), Scale(3.0), LAYERS.Dense(1, name="z")])
    model.compile("adam", bumpy, metrics=[bumpy])
    samples = {"x": _random().random((ROWS, 2)), "y": _random().random((ROWS, 1))}
    more = ("--import=tests.export.models.own_layers", "--max=bumpy=9")
    return Specimen(model, samples, {"x"}, {"z"}, more)


ALL: dict[str, Callable[[], Specimen]] = {
    made.__name__: made
    for made in (
        dense,
        convolution,
        recurrent,
        embedding,
        normalised,
        several_outputs,
        subclassed,
        logits,
        half_precision,
        own_layer,
    )
}
