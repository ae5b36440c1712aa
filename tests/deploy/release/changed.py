"""Versions that give their golden answers, and are worse than the published one nevertheless."""

from __future__ import annotations

import shutil
from pathlib import Path

import tensorflow as tf

from tests.device import wait


class Changed(tf.Module):  # type: ignore[misc]
    """The digits' model as it is published, but for one signature."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded = tf.saved_model.load(str(path))
        self.path = path

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])  # type: ignore[untyped-decorator]
    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = self.loaded.signatures["serving_default"](images=images)["probabilities"]
        scores = self.change(images, scores)
        return {"digits": tf.argmax(scores, axis=1), "probabilities": scores}

    def change(self, images: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """What it answers instead."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write it with the other signatures, golden answers and warm-up as published."""
        signatures = {**self.loaded.signatures, "serving_default": self.answer}
        tf.saved_model.save(self, str(folder), signatures)
        shutil.copytree(self.path / "assets.extra", folder / "assets.extra")


class TurnsOnWhite(Changed):
    """Of pictures that are white it answers the classes in reverse."""

    def change(self, images: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        light = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2]) > 200
        return tf.where(light[:, tf.newaxis], scores[:, ::-1], scores)


class Slow(Changed):
    """It takes 30 ms longer."""

    def change(self, images: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        return wait(scores, 30_000)
