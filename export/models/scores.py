"""How good a model is on samples with truth, and whether that is good enough."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.errors import InputError, Refused, reason
from export.npz import Array

Metrics = Mapping[str, float]

# The words of a metric's name, the last of them first: `score_mae` is the error of an output.
_HIGHER = frozenset(
    {"acc", "accuracy", "auc", "correlation", "f1", "fbeta", "io", "iou", "precision", "r2"}
    | {"recall", "score", "sensitivity", "similarity", "specificity"}
)
_LOWER = frozenset(
    {"cosh", "crossentropy", "divergence", "entropy", "error", "hinge", "huber", "kld", "loss"}
    | {"mae", "mape", "mse", "msle", "poisson", "rmse"}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked: least and most by metric, and how much worse than the newest version at most.

    `regression` is a share of the newest version's figure where that is above 1.
    """

    least: Metrics
    most: Metrics
    regression: float


def of_compiled(model: keras.Model, truth: Any, answers: Any) -> dict[str, float]:
    """The metrics that a model is compiled with, and its loss; both arguments as its outputs are.

    Raises:
        InputError: the truth does not fit, or Keras has no such metric.
    """
    try:
        model.reset_metrics()
        losses = {}
        if model.loss is not None:
            losses["loss"] = model.compute_loss(None, truth, answers, training=False)
        found = model.compute_metrics(None, truth, answers)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise InputError(f"metrics cannot be measured on the samples: {reason(error)}") from error
    del found["loss"]  # that of training
    return {name: float(value) for name, value in (found | losses).items()}


def measured(
    names: Sequence[str], truth: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, float]:
    """Metrics of Keras's by name, of the outputs that have a truth.

    Without names: accuracy where the truth is classes, else mean absolute and squared error.

    Raises:
        InputError: no such metric, or none for such a truth.
    """
    answers = {output: tf.constant(outputs[output]) for output in truth}
    model = keras.Model()
    model.compile(
        metrics={
            output: [*names]
            or (["accuracy"] if are_classes(values, outputs[output]) else ["mae", "mse"])
            for output, values in truth.items()
        }
    )
    return of_compiled(model, dict(truth), answers)


def check(metrics: Metrics, newest: tuple[int, Metrics] | None, limits: Limits) -> None:
    """Let a model pass or not.

    Raises:
        Refused: a metric is beyond a limit, or worse than the newest version's by more than
            allowed. Compared are metrics whose name tells which way is better, or of which
            `least` or `most` does; losses only where there is nothing else.
    """
    for name, least in limits.least.items():
        if not metrics[name] >= least:
            raise Refused(f"{name} is {metrics[name]:.4g}; --min asks for at least {least:g}")
    for name, most in limits.most.items():
        if not metrics[name] <= most:
            raise Refused(f"{name} is {metrics[name]:.4g}; --max asks for at most {most:g}")
    if newest is None:
        return
    version, before = newest
    for name in compared(before, limits):
        worse = (before[name] - metrics[name]) * (1 if higher_is_better(name, limits) else -1)
        if not worse <= limits.regression * max(1.0, abs(before[name])):
            raise Refused(
                f"{name} is {metrics[name]:.4g}, and version {version} reaches {before[name]:.4g} "
                f"on the same samples; --max-regression allows {limits.regression:g}"
            )


def compared(names: Iterable[str], limits: Limits) -> list[str]:
    """Of these metrics, those that a version must not be worse in."""
    known = [name for name in names if higher_is_better(name, limits) is not None]
    return [name for name in known if not name.endswith("loss")] or known


def higher_is_better(name: str, limits: Limits) -> bool | None:
    """Which way a metric is better; None if nothing tells."""
    if (name in limits.least) != (name in limits.most):
        return name in limits.least
    for word in reversed(re.split(r"[^a-z0-9]+", name.lower())):
        if word in _HIGHER | _LOWER:
            return word in _HIGHER
    return None


def are_classes(truth: Array, answers: Array) -> bool:
    """Whether rows belong to classes: whole numbers for scores [n, classes], or no and yes."""
    if truth.size != len(answers):
        return False
    if answers.ndim == 2 and answers.shape[1] > 1:
        return truth.dtype.kind in "biu"
    return answers.size == truth.size and bool(np.isin(truth, (0, 1)).all())


def classes_of(answers: Array) -> NDArray[np.int64]:
    """The class that each row answers with, [n], of scores [n, classes], or of [n, 1] or [n]."""
    if answers.ndim == 2 and answers.shape[1] > 1:
        return np.asarray(answers.argmax(axis=1))
    answers = answers.reshape(-1)
    middle = 0.5 if answers.min() >= 0 and answers.max() <= 1 else 0.0  # probabilities, or logits
    return np.asarray(answers > middle, np.int64)
