"""A version with signatures of every kind, and golden answers for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from deploy.release import golden
from export.publication import card
from export.publication.golden import Answers, Golden
from export.publication.serving_path import ServedModel
from tests.conftest import once
from tfserving_client import serialize_example


class Levels(tf.Module):  # type: ignore[misc]
    """Signatures for Classify and Regress; of strings with zeros; of halves, not for REST."""

    def __init__(self) -> None:
        super().__init__()
        self.most = tf.Variable(400.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def classes(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        size = self._sizes(inputs)
        scores = tf.stack([size, 1 - size], axis=1)
        names = tf.tile([["large", "small"]], [tf.size(size), 1])
        return {"classes": names, "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def price(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.most * self._sizes(inputs)[:, tf.newaxis]}

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None], tf.string, name="word"),
            tf.TensorSpec([], tf.string, name="end"),
        ]
    )
    def joined(self, word: tf.Tensor, end: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"joined": word + end}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="x")])  # type: ignore[untyped-decorator]
    def half(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2}

    def _sizes(self, examples: tf.Tensor) -> tf.Tensor:
        features = {
            "size": tf.io.FixedLenFeature([], tf.float32),
            "count": tf.io.FixedLenFeature([1], tf.int64),
            "name": tf.io.FixedLenFeature([1], tf.string),
        }
        parsed = tf.io.parse_example(examples, features)
        length = tf.cast(tf.strings.length(parsed["name"]), tf.float32)
        return parsed["size"] / tf.cast(parsed["count"], tf.float32)[:, 0] / length[:, 0]


def _publish(folder: Path) -> None:
    """`Levels` with golden answers and a card, as `python -m export` writes them."""
    module = Levels()
    signatures = {
        "classes": module.classes,
        "price": module.price,
        "joined": module.joined,
        "half": module.half,
    }
    tf.saved_model.save(module, str(folder), signatures)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    definitions = saved.meta_graphs[0].signature_def
    definitions["classes"].method_name = golden.CLASSIFY
    definitions["price"].method_name = golden.REGRESS
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    rows = [{"size": i / 8, "count": [2], "name": b"ab"} for i in range(5)]
    examples = np.array([serialize_example(row) for row in rows], object)
    inputs: dict[str, dict[str, Any]] = {
        "classes": {"inputs": examples},
        "price": {"inputs": examples},
        "joined": {
            "word": np.array([b"a\0", b"", b"\0b"], object),
            "end": np.array(b"!\0", object),
        },
        "half": {"x": np.array([1, 3], np.float16)},
    }
    with ServedModel(folder) as served:
        answers = {name: Answers(given, served.run(name, given)) for name, given in inputs.items()}
        Golden(answers).write(folder)
        card.write(folder, card.describe("levels", served.signatures, {}))


@pytest.fixture(scope="session")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of `Levels`, for all tests of a run: who changes it changes a copy."""

    def publish(models: Path) -> str:
        folder = models / "levels" / "1"
        _publish(folder)
        return str(folder)

    return Path(once(tmp_path_factory, "levels", publish))
