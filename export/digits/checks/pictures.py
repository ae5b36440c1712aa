"""Test digits as callers send them in files: dark ink on white paper (in colour: as they are)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.digits.data.sources import Split
from export.digits.graph.signatures import example
from export.digits.subject import CHANNELS, CLASSES, SIDE, WHITE
from export.publication.serving_path import ServedModel

_IMAGES = 500  # at most: each costs two answers of some milliseconds
_SCALE = 5  # pixels of the page for each of the digit's
_MARGIN = 4  # pixels of the digit, of paper around it


@dataclass(frozen=True, slots=True)
class PictureFigures:
    """A signature of files against `serving_default`, on the same digits.

    Attributes:
        images: how many digits.
        accuracy: share of them that are read right in files, 0..1.
        lost: read right as arrays, and wrong in files.
        won: the reverse.
    """

    images: int
    accuracy: float
    lost: int
    won: int


def measure(served: ServedModel, test: Split) -> dict[str, PictureFigures]:
    """Signature → its figures, for each that takes files."""
    chosen = np.linspace(0, len(test) - 1, min(len(test), _IMAGES)).astype(int)
    images, labels = test.images[chosen], test.labels[chosen]
    files = [_drawn(image) for image in images]
    examples = [example(file).SerializeToString() for file in files]
    plain = served.run("serving_default", images)["digits"]
    answers = {
        "encoded": served.run("encoded", np.array(files, object))["digits"],
        "classify": _numbers(served.run("classify", np.array(examples, object))["classes"][:, 0]),
    }
    return {name: _figures(plain == labels, digits == labels) for name, digits in answers.items()}


def _numbers(classes: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([CLASSES.index(name.decode()) for name in classes])


def _figures(plain: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> PictureFigures:
    return PictureFigures(
        len(plain), float(drawn.mean()), int((plain & ~drawn).sum()), int((drawn & ~plain).sum())
    )


def _drawn(image: NDArray[np.uint8]) -> bytes:
    page = image.reshape(SIDE, SIDE, CHANNELS).astype(np.float32)
    if CHANNELS == 1:
        margin = [(_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)]
        page = np.pad(WHITE - page, margin, constant_values=WHITE)
    large = tf.image.resize(page, [_SCALE * side for side in page.shape[:2]], "bicubic")
    pixels = tf.cast(tf.clip_by_value(tf.round(large), 0, WHITE), tf.uint8)
    return bytes(tf.io.encode_png(pixels).numpy())
