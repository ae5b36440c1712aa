"""A model that was brought, as a candidate for publication."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from export.errors import InputError, reason
from export.models import graph, samples, scores
from export.models.given import Given
from export.models.keras_model import KerasModel
from export.models.samples import Input, Samples
from export.models.saved_model import SavedModel
from export.models.scores import Limits
from export.progress import say
from export.publication import figures, manifest
from export.publication.golden import Answers, Golden
from export.publication.pipeline import Evidence, of_newest
from export.publication.repository import Repository
from export.publication.serving_path import Array, ServedModel

_GOLDEN_ROWS, _GOLDEN_BYTES = 100, 16 << 20  # of a signature's inputs, at most
_MOST_CLASSES, _MOST_POINTS = 40, 1_000  # that a picture shows


class Model(Protocol):
    """What both kinds of models can."""

    tolerance: float
    signatures: dict[str, dict[str, Input]]
    main: str  # the signature that samples are for

    def facts(self) -> dict[str, Any]: ...  # noqa: D102
    def answer(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]: ...  # noqa: D102
    def score(  # noqa: D102
        self, truth: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> dict[str, float] | None: ...
    def save(self, folder: Path) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked; the flags' help says what each means."""

    imports: Sequence[str]
    limits: Limits


class Brought:
    """A model of somebody's, with rows to try it on."""

    def __init__(self, given: Given, rows: Samples, options: Options) -> None:
        self._given, self._samples, self._options = given, rows, options
        self._untried: list[str] = []

    def save(self, folder: Path) -> Golden:
        """Write it, and take its answers; see `Candidate`."""
        path = self._given.path
        self._model = self._loaded()
        say(f"sign    {path.name}: {', '.join(self._model.signatures)}")
        answers = {}
        for signature, wanted in self._model.signatures.items():
            try:
                inputs = self._inputs(signature, wanted)
                golden = {alias: _first(values, inputs) for alias, values in inputs.items()}
                answers[signature] = Answers(golden, self._model.answer(signature, golden))
            except (InputError, tf.errors.OpError, ValueError) as error:
                if self._is_held_to(signature):
                    hint = "" if self._samples.arrays else "; give rows that it takes as --samples"
                    raise InputError(f"signature {signature}: {reason(error)}{hint}") from error
                self._untried.append(f"{signature} is not tried: {reason(error)}")
                say(f"sign    {self._untried[-1]}")
        self._model.save(folder)
        graph.check(folder)
        return Golden(answers, self._model.tolerance)

    def examine(self, served: ServedModel, repository: Repository) -> Evidence:
        """Measure it on the samples, if they hold truth; see `Candidate`."""
        limits, signature = self._options.limits, self._model.main
        truth = self._samples.truth(served.signatures[signature].outputs)
        metrics: dict[str, float] = {}
        newest = None
        pictures: dict[str, Figure] = {}
        if truth:
            inputs = self._inputs(signature, self._model.signatures[signature])
            answers = served.run(signature, inputs)
            metrics = self._score(truth, answers)
            newest = of_newest(
                repository, lambda before: self._score(truth, before.run(signature, inputs))
            )
            for name in truth:
                pictures |= _pictures(name if len(truth) > 1 else "", truth[name], answers[name])
        elif asked := [*limits.least, *limits.most]:
            raise InputError(f"{asked[0]} cannot be measured without truth: --samples with y")
        if metrics:
            say(
                f"check   {_told(metrics)}"
                + (f" (version {newest[0]}: {_told(newest[1])})" if newest else "")
            )
        scores.check(metrics, newest, limits)
        return Evidence(self._card(truth, metrics, newest), pictures)

    def _loaded(self) -> Model:
        if self._given.is_keras:
            return KerasModel(self._given.path, self._options.imports, self._samples)
        graph.check(self._given.path)
        return SavedModel(self._given.path)

    def _is_held_to(self, signature: str) -> bool:
        return signature == self._model.main

    def _inputs(self, signature: str, wanted: Mapping[str, Input]) -> dict[str, Array]:
        """The samples, or made inputs where there are none for this signature."""
        if not self._samples.arrays:
            return samples.made(wanted)
        try:
            return self._samples.inputs(wanted)
        except InputError:
            if self._is_held_to(signature):
                raise
            return samples.made(wanted)

    def _score(self, truth: Mapping[str, Array], answers: Mapping[str, Array]) -> dict[str, float]:
        """The metrics that it was compiled with, or those that fit, and what is asked for."""
        found = self._model.score(truth, answers) or scores.measured(None, truth, answers)
        asked = self._options.limits.least.keys() | self._options.limits.most.keys()
        if more := sorted(asked - found.keys()):
            found |= scores.measured(more, truth, answers)
        if missing := asked - found.keys():
            raise InputError(f"no metric {min(missing)}; the model has {', '.join(found)}")
        return found

    def _card(
        self,
        truth: Mapping[str, Array],
        metrics: Mapping[str, float],
        newest: tuple[int, Mapping[str, float]] | None,
    ) -> dict[str, Any]:
        limits, rows = self._options.limits, self._samples
        note = [] if rows.arrays else ["inputs were made to fit names, dtypes and shapes"]
        return {
            "source": {
                "name": self._given.path.resolve().name,
                "kind": "keras" if self._given.is_keras else "saved_model",
                "sha256": manifest.digest(self._given.path),
            },
            "network": self._model.facts(),
            "samples": {
                "name": rows.name or None,
                "sha256": rows.sha256 or None,
                "truth": sorted(truth),
                "note": "; ".join(note + self._untried),
            },
            "tolerance": self._model.tolerance,
            "metrics": dict(metrics),
            "limits": {"min": dict(limits.least), "max": dict(limits.most)},
            "compared": scores.compared(metrics, limits),
            "compared_with": newest and {"version": newest[0], "metrics": dict(newest[1])},
        }


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
