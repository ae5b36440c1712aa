from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export.digits.data import sources as data


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    """Some of the embedded sample: enough to learn from, in seconds."""
    whole = data.load("digits")
    train, validation, test = (
        data.Split(split.images[:images], split.labels[:images])
        for split, images in [(whole.train, 1500), (whole.validation, 200), (whole.test, 400)]
    )
    return replace(whole, train=train, validation=validation, test=test)


@pytest.fixture(scope="session")
def small_npz(digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file of those digits, of which an export tests a hundred."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=digits.train.images,
        y_train=digits.train.labels,
        x_test=digits.test.images[:100],
        y_test=digits.test.labels[:100],
    )
    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as people bring them, which asks and answers as the digits' does.

    It is published in a fraction of the time that digits take, by the same pipeline.
    """

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(tf.cast(images[:, 0, :10], tf.float32))}

    spec = tf.TensorSpec([None, 28, 28], tf.uint8, name="images")
    signature = tf.function(answer, input_signature=[spec], autograph=False)
    folder = tmp_path_factory.mktemp("model") / "small"
    tf.saved_model.save(tf.Module(), str(folder), signatures=signature)
    return folder
