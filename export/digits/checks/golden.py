"""Golden digits: some test images of each class, as every signature takes them.

Beside what `export.publication.golden` says of the file, it holds arrays with names of their own:
images uint8 [n, *SHAPE], labels uint8 [n], files (PNG) [n], and the answers of the network in
memory: probabilities float32 [n, classes] for the images, file_probabilities for the files.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.digits.data.sources import Split
from export.digits.graph.answers import of_network, told
from export.digits.graph.preprocessing import normalise_files
from export.digits.graph.signatures import ALIASES, inputs_for
from export.digits.subject import CLASSES, WHITE
from export.publication.golden import Answers, Golden

_PER_CLASS = 10


def choose(network: keras.Model, test: Split) -> Golden:
    """Take the first ten test images of each class, with the network's answers."""
    chosen = np.concatenate(
        [np.flatnonzero(test.labels == number)[:_PER_CLASS] for number in range(len(CLASSES))]
    )
    images = test.images[chosen]
    inputs = inputs_for(images)
    seen, is_one = normalise_files(tf.constant(inputs["encoded"]))
    of_files = told(_answers(network, seen), is_one).numpy()
    of_images = _answers(network, images).numpy()
    outputs = {
        "serving_default": {"probabilities": of_images},
        "predict_images": {"scores": of_images},
        "packed": {"probabilities": of_images},
        "encoded": {"probabilities": of_files},
        # The order of classes is left out: that of equals is a matter of a unit in the last place.
        "classify": {"scores": -np.sort(-of_files, axis=1)},
    }
    return Golden(
        {name: Answers({ALIASES[name]: inputs[name]}, outputs[name]) for name in ALIASES},
        named={
            "images": images,
            "labels": test.labels[chosen],
            "files": inputs["encoded"],
            "probabilities": of_images,
            "file_probabilities": of_files,
        },
    )


def _answers(network: keras.Model, images: Any) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32) / WHITE
    return of_network(network(pixels, training=False), pixels)
