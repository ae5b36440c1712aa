"""A model that was brought, as a candidate for publication."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from export.errors import InputError, reason
from export.models import samples, saved_model, scores
from export.models.keras_model import KerasModel
from export.models.samples import Input, Samples
from export.models.scores import Limits
from export.npz import Array
from export.progress import say
from export.publication import figures, manifest
from export.publication.golden import TOLERANCE, Answers, Golden
from export.publication.pipeline import Evidence, of_newest
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel

_GOLDEN_ROWS, _GOLDEN_BYTES = 100, 16 << 20  # of a signature's inputs, at most
_FOREIGN: dict[str, Any] = {"parameters": None, "layers": [], "weights": "as given"}
_MOST_CLASSES, _MOST_POINTS = 40, 1_000  # that a picture shows


class Brought:
    """A model of somebody's, with rows to try it on; `options` are the command line's."""

    def __init__(self, path: Path, rows: Samples, options: Namespace) -> None:
        self._path, self._samples = path, rows
        self._imports = getattr(options, "import")
        self._limits = Limits(dict(options.min), dict(options.max), options.max_regression)
        self._keras: KerasModel | None = None
        self._notes = [] if rows.arrays else ["inputs were made to fit names, dtypes and shapes"]

    def save(self, folder: Path) -> None:
        """Load and write it, or copy it."""
        if self._path.is_dir():
            return saved_model.copy(self._path, folder)
        self._keras = KerasModel(self._path, self._imports, self._samples)
        try:
            self._keras.save(folder)
        except (InputError, OSError, tf.errors.OpError):
            raise
        except Exception as error:  # of whatever kind: its layers are somebody's program
            raise InputError(f"{self._path} cannot be saved: {reason(error)}") from error

    def golden(self, served: ServedModel) -> Golden:
        """Of each signature that the samples fit, or made inputs.

        Only Keras can be compared with the server; a SavedModel has to answer the same twice.
        """
        if not (names := sorted(served.signatures)):
            raise InputError(f"{self._path} has no signature: save it with signatures=…")
        answer = self._keras.answer if self._keras else served.run
        self._main = "serving_default" if "serving_default" in names else names[0]
        say(f"sign    {self._path.name}: {', '.join(names)}")
        answers = {}
        for signature in names:
            try:
                inputs = self._inputs(served, signature)
                first = {alias: _first(values, inputs) for alias, values in inputs.items()}
                answers[signature] = Answers(first, answer(signature, first))
            except (InputError, tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
                if signature == self._main:
                    hint = "" if self._samples.arrays else "; --samples gives rows that it takes"
                    raise InputError(f"signature {signature}: {reason(error)}{hint}") from error
                self._notes.append(f"{signature} is not tried: {reason(error)}")
                say(f"sign    {self._notes[-1]}")
        return Golden(answers, self._tolerance)

    def examine(self, served: ServedModel, repository: Repository) -> Evidence:
        """Measure it on the samples, if they hold truth."""
        inputs = {alias for signature in served.signatures.values() for alias in signature.inputs}
        truth = self._samples.truth(served.signatures[self._main].outputs, inputs)
        metrics: dict[str, float] = {}
        pictures: dict[str, Figure] = {}
        newest = None
        if truth:
            rows = self._inputs(served, self._main)
            answers = served.run(self._main, rows)
            metrics = self._score(truth, answers)
            say(f"check   {_told(metrics)}")
            newest = of_newest(
                repository, lambda before: self._score(truth, before.run(self._main, rows))
            )
            if newest:
                say(f"check   version {newest[0]}: {_told(newest[1])}")
            for name in truth:
                pictures |= _pictures(name if len(truth) > 1 else "", truth[name], answers[name])
        elif asked := [*self._limits.least, *self._limits.most]:
            raise InputError(f"{asked[0]} cannot be measured without truth: --samples with y")
        scores.check(metrics, newest, self._limits)
        return Evidence(self._card(truth, metrics, newest), pictures)

    @property
    def _tolerance(self) -> float:
        return self._keras.tolerance if self._keras else TOLERANCE

    def _inputs(self, served: ServedModel, signature: str) -> dict[str, Array]:
        """The samples, or made inputs where there are none for this signature."""
        wanted = {
            alias: _input(alias, info)
            for alias, info in served.signatures[signature].inputs.items()
        }
        if not self._samples.arrays:
            return samples.made(wanted)
        try:
            return self._samples.inputs(wanted)
        except InputError:
            if signature == self._main:
                raise
            return samples.made(wanted)

    def _score(self, truth: Mapping[str, Array], answers: Mapping[str, Array]) -> dict[str, float]:
        """The metrics that it was compiled with; else those that are asked for, or that fit."""
        asked = self._limits.least.keys() | self._limits.most.keys()
        compiled = self._keras and self._keras.score(truth, answers)
        found = compiled or scores.measured([*asked], truth, answers)
        if missing := asked - found.keys():
            raise InputError(f"{min(missing)} cannot be measured; the model has {', '.join(found)}")
        return found

    def _card(
        self,
        truth: Mapping[str, Array],
        metrics: Mapping[str, float],
        newest: tuple[int, Mapping[str, float]] | None,
    ) -> dict[str, Any]:
        limits, rows = self._limits, self._samples
        return {
            "source": {
                "name": self._path.resolve().name,
                "kind": "keras" if self._keras else "saved_model",
                "sha256": manifest.digest(self._path),
            },
            "network": self._keras.facts() if self._keras else _FOREIGN,
            "samples": {
                "name": rows.name or None,
                "sha256": rows.sha256 or None,
                "truth": sorted(truth),
                "note": "; ".join(self._notes),
            },
            "tolerance": self._tolerance,
            "metrics": dict(metrics),
            "limits": {"min": dict(limits.least), "max": dict(limits.most)},
            "compared": scores.compared(metrics, limits),
            "compared_with": newest and {"version": newest[0], "metrics": dict(newest[1])},
        }


def _input(alias: str, info: Any) -> Input:
    """Of the TensorInfo of a signature's input."""
    sizes = [size.size if size.size >= 0 else None for size in info.tensor_shape.dim]
    if sizes and sizes[0] is not None:
        raise InputError(
            f"input {alias} has a fixed batch dimension of {sizes[0]}, and the server needs a free "
            "one: keras.Input(shape) without batch_size, a tf.TensorSpec that begins with None"
        )
    shape = None if info.tensor_shape.unknown_rank else tuple(sizes)
    return Input(np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype), shape)


def _first(values: Array, inputs: Mapping[str, Array]) -> Array:
    """As many of the first rows as are worth keeping."""
    if not values.ndim:
        return values
    width = sum(array.nbytes // len(array) for array in inputs.values() if array.ndim)
    return values[: max(1, min(_GOLDEN_ROWS, _GOLDEN_BYTES // max(1, width)))]


def _told(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _pictures(output: str, truth: Array, answers: Array) -> dict[str, Figure]:
    """What fits: a confusion matrix for classes, points for numbers, else nothing."""
    suffix = f"_{re.sub(r'[^A-Za-z0-9_.-]', '_', output)}.svg" if output else ".svg"
    truth = truth.reshape(-1)
    if scores.are_classes(truth, answers):
        called = scores.classes_of(answers)
        classes = 1 + max(1, int(truth.max()), answers.shape[-1] - 1 if answers.ndim > 1 else 0)
        if classes > _MOST_CLASSES:
            return {}
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (truth.astype(int), called), 1)
        names = [str(number) for number in range(classes)]
        return {f"confusion{suffix}": figures.confusion(counts, names)}
    if truth.size != answers.size or answers.dtype.kind not in "iuf":
        return {}
    points = truth[:_MOST_POINTS], answers.reshape(-1)[:_MOST_POINTS]
    return {f"predicted{suffix}": figures.predicted(*points, output or "the output")}
