"""Golden digits: inputs with the answers they must get, on any server, for as long as it serves.

`assets.extra/golden.npz` travels with the version: images uint8 [100, 28, 28], labels uint8 [100],
files (PNG, fixed-width bytes) [100], and the answers of the network in memory: probabilities
float32 [100, 10] for the images, file_probabilities for the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from export.digits.data.sources import Split
from export.digits.graph.answers import of_network, told
from export.digits.graph.preprocessing import normalise_files
from export.digits.graph.signatures import ALIASES, CLASSES, example, inputs_for
from export.errors import Refused
from export.publication import warmup
from export.publication.serving_path import ServedModel

PATH = Path("assets.extra", "golden.npz")
_PER_DIGIT = 10


@dataclass(frozen=True, slots=True)
class Golden:
    """See the module."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    file_probabilities: NDArray[np.float32]
    inputs: dict[str, NDArray[Any]]

    def write(self, folder: Path) -> None:
        """Write `PATH` under a version's folder."""
        path = folder / PATH
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(
            path,
            images=self.images,
            labels=self.labels,
            files=self.inputs["encoded"].astype(bytes),
            probabilities=self.probabilities,
            file_probabilities=self.file_probabilities,
        )


def requests(golden: Golden, name: str) -> Iterator[PredictionLog]:
    """One request for each signature of the model `name` and each batch size, for its warm-up."""
    for size in warmup.BATCH_SIZES:
        for signature, alias in ALIASES.items():
            yield warmup.predict(name, signature, {alias: golden.inputs[signature][:size]})
        examples = [example(file) for file in golden.inputs["encoded"][:size]]
        yield warmup.classify(name, "classify", examples)


def choose(network: keras.Model, test: Split) -> Golden:
    """Take the first ten test images of each digit, with the network's answers."""
    chosen = np.concatenate(
        [np.flatnonzero(test.labels == digit)[:_PER_DIGIT] for digit in range(10)]
    )
    images = test.images[chosen]
    inputs = inputs_for(images)
    seen, is_one = normalise_files(tf.constant(inputs["encoded"]))
    of_files = told(_answers(network, seen), is_one).numpy()
    return Golden(images, test.labels[chosen], _answers(network, images).numpy(), of_files, inputs)


def parity(golden: Golden, served: ServedModel) -> dict[str, float]:
    """Largest difference to the network in memory, signature by signature, in probability.

    Raises:
        Refused: `classify` does not name each class once.
    """
    served_answers = {name: served.run(name, values) for name, values in golden.inputs.items()}
    classified = served_answers["classify"]
    classes = classified["classes"].astype(str)
    order = np.argsort(classes, axis=1)  # best first → "0" to "9"
    if not (np.take_along_axis(classes, order, axis=1) == np.array(CLASSES)).all():
        raise Refused(f"signature classify answers with classes {classes[0]}; expected {CLASSES}")
    pairs = {
        "serving_default": (
            golden.probabilities,
            served_answers["serving_default"]["probabilities"],
        ),
        "predict_images": (golden.probabilities, served_answers["predict_images"]["scores"]),
        "packed": (golden.probabilities, served_answers["packed"]["probabilities"]),
        "encoded": (golden.file_probabilities, served_answers["encoded"]["probabilities"]),
        "classify": (
            golden.file_probabilities,
            np.take_along_axis(classified["scores"], order, axis=1),
        ),
    }
    return {name: float(np.abs(want - got).max()) for name, (want, got) in pairs.items()}


def _answers(network: keras.Model, images: Any) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32) / 255.0
    return of_network(network(pixels, training=False), pixels)
