"""Recipes: how the one network is trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from export.digits.data.sources import Dataset
from export.digits.subject import WHITE
from export.digits.training import augmented
from export.digits.training.augmented import Settings
from export.digits.training.distortion import Distortion
from export.digits.training.optimizer import Rates


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe's name and what can be changed about it from the command line."""

    name: str
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch achieved; losses are means of the cross-entropy in nats.

    `loss` is over the images as the epoch saw them: bent and hard ones in all but `reference`.
    """

    epoch: int
    epochs: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float

    def __str__(self) -> str:
        """One line of progress."""
        return (
            f"epoch {self.epoch:3}/{self.epochs}  loss {self.loss:.4f}  "
            f"validation accuracy {self.validation_accuracy:.4f}  {self.seconds:5.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network, how it came about, on what, and the wall time that took in seconds."""

    network: keras.Model
    recipe: Recipe
    epochs: list[EpochReport]
    devices: str
    seconds: float


OnEpoch = Callable[[EpochReport], None]

_REFERENCE = Recipe("reference", epochs=10, batch_size=32, seed=1)


@dataclass(frozen=True, slots=True)
class _Augmented:
    """A recipe that goes by images seen, so that fewer images are seen more often."""

    images: int
    max_epochs: int  # a small set is learnt by then
    batch_size: int
    settings: Settings


# Chosen on validation images; export/RECIPES.md tells what else was tried.
_AUGMENTED = {
    # In few steps, images that are distorted less teach more; less exact steps of Muon cost less.
    "fast": _Augmented(
        880_000,
        100,
        512,
        Settings(
            rates=Rates(peak=0.015, adam=0.7, newton_schulz=3),
            distortion=Distortion(rotation=0.12, shear=0.12, shift=1.2, warp=0.6),
        ),
    ),
    "best": _Augmented(10_000_000, 400, 1024, Settings()),
}


def recipe(
    name: str,
    images: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Recipe:
    """A recipe for so many training images, changed where something other than None is given."""
    default = _REFERENCE
    if name in _AUGMENTED:
        how = _AUGMENTED[name]
        epochs_for_images = min(how.max_epochs, max(1, round(how.images / images)))
        default = Recipe(name, epochs_for_images, how.batch_size, seed=1)
    return Recipe(
        name,
        default.epochs if epochs is None else epochs,
        default.batch_size if batch_size is None else batch_size,
        default.seed if seed is None else seed,
    )


def train(network: keras.Model, dataset: Dataset, recipe: Recipe, on_epoch: OnEpoch) -> None:
    """Train the network in place on the training images, uint8, divided by 255."""
    if recipe.name in _AUGMENTED:
        _augmented(network, dataset, recipe, on_epoch)
    else:
        _reference(network, dataset, recipe, on_epoch)


def _reference(network: keras.Model, dataset: Dataset, recipe: Recipe, on_epoch: OnEpoch) -> None:
    """The textbook script: Adam, sparse categorical cross-entropy, accuracy, nothing else."""
    network.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(
        _scaled(dataset.train.images),
        dataset.train.labels,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(_scaled(dataset.validation.images), dataset.validation.labels),
        callbacks=[_Reporter(recipe.epochs, on_epoch)],
        verbose=0,
    )


def _augmented(network: keras.Model, dataset: Dataset, recipe: Recipe, on_epoch: OnEpoch) -> None:
    losses = augmented.train(
        network,
        dataset.train,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        settings=_AUGMENTED[recipe.name].settings,
    )
    pixels, labels = _scaled(dataset.validation.images), dataset.validation.labels
    started = time.perf_counter()
    for epoch, loss in enumerate(losses, start=1):
        answers = network(pixels, training=False)
        validation_loss = keras.losses.sparse_categorical_crossentropy(labels, answers)
        accuracy = np.mean(answers.numpy().argmax(axis=1) == labels)
        seconds = time.perf_counter() - started
        on_epoch(
            EpochReport(
                epoch,
                recipe.epochs,
                loss,
                float(np.mean(validation_loss)),
                float(accuracy),
                seconds,
            )
        )
        started = time.perf_counter()


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, epochs: int, on_epoch: OnEpoch) -> None:
        super().__init__()
        self._epochs, self._on_epoch = epochs, on_epoch

    def on_epoch_begin(self, _epoch: int, _logs: Any = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._started
        self._on_epoch(
            EpochReport(
                epoch + 1,
                self._epochs,
                logs["loss"],
                logs["val_loss"],
                logs["val_accuracy"],
                seconds,
            )
        )


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(WHITE)
