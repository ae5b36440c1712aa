"""From a model's raw outputs to a `Classification`, or `BadResponse`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import BadResponse, CallContext
from client.exchange import Prediction
from client.results import Classification

_ROUNDING = 1e-3  # how far past 0..1 a probability may lie


def classification(context: CallContext, prediction: Prediction, n: int) -> Classification:
    """The answer for n images.

    Raises:
        BadResponse: the outputs are not n rows of ten probabilities, and n digits if any.
    """
    outputs = prediction.outputs
    # `predict_images` keeps the names of TensorFlow Serving's own example, and has one output.
    probabilities = outputs.get("probabilities", outputs.get("scores"))
    if probabilities is None or probabilities.shape != (n, 10):
        found = {alias: array.shape for alias, array in outputs.items()}
        raise BadResponse(context, f"outputs {found}; expected probabilities of shape ({n}, 10)")
    if probabilities.dtype.kind not in "fiu" or not _all_within(
        probabilities, -_ROUNDING, 1 + _ROUNDING
    ):
        raise BadResponse(context, "probabilities that do not lie in 0..1")
    digits = outputs.get("digits")
    if digits is None:
        digits = probabilities.argmax(axis=1)
    if digits.dtype.kind not in "iu" or digits.shape != (n,) or not _all_within(digits, 0, 9):
        raise BadResponse(context, f"digits that are not {n} integers in 0..9")
    return Classification(
        digits.astype(np.int64, copy=False),
        probabilities.astype(np.float32, copy=False),
        prediction.version,
    )


def split(answer: Classification, sizes: Sequence[int]) -> list[Classification]:
    """One answer for `sum(sizes)` images → one for each size."""
    parts, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        parts.append(
            Classification(answer.digits[rows], answer.probabilities[rows], answer.version)
        )
        start += size
    return parts


def join(answers: Sequence[Classification]) -> Classification:
    """The reverse; the version is that of the last."""
    if len(answers) == 1:
        return answers[0]
    return Classification(
        np.concatenate([answer.digits for answer in answers]),
        np.concatenate([answer.probabilities for answer in answers]),
        answers[-1].version,
    )


def _all_within(values: NDArray[Any], low: float, high: float) -> bool:
    return bool(values.min() >= low and values.max() <= high)  # NaN is within nothing
