"""Rows of inputs, cut and merged, and the answers to them likewise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfserving_client.call.exchange import Inputs
from tfserving_client.errors import CallContext
from tfserving_client.results import Prediction, Signature


class Uneven(Exception):
    """An answer that cannot be cut: it has not a row for each row of the inputs."""


class Answers(NamedTuple):
    """What becomes of a model's raw answer.

    Attributes:
        read: the context, the raw answer and the number of rows → the answer. Raises `BadResponse`.
        split: one answer for `sum(sizes)` rows → one for each size. May raise `Uneven`.
        join: the reverse.
    """

    read: Callable[[CallContext, Prediction, int], Any]
    split: Callable[[Any, Sequence[int]], list[Any]]
    join: Callable[[Sequence[Any]], Any]


def _split(answer: Prediction, sizes: Sequence[int]) -> list[Prediction]:
    if any(array.shape[:1] != (sum(sizes),) for array in answer.outputs.values()):
        raise Uneven
    ends = np.cumsum(sizes).tolist()
    return [
        replace(answer, outputs={a: array[end - n : end] for a, array in answer.outputs.items()})
        for end, n in zip(ends, sizes, strict=True)
    ]


def _join(answers: Sequence[Prediction]) -> Prediction:
    if len(answers) == 1:
        return answers[0]
    outputs = {
        alias: np.concatenate([answer.outputs[alias] for answer in answers])
        for alias in answers[0].outputs
    }
    return replace(answers[-1], outputs=outputs)


PREDICTIONS = Answers(lambda _context, prediction, _rows: prediction, _split, _join)


@dataclass(slots=True)
class Rows:
    """Inputs that are ready for one signature.

    Attributes:
        signature: its name.
        inputs: tensors by alias.
        rows: the size of every input's first dimension; None if they cannot be cut or merged.
        answers: what becomes of the model's answer.
        outputs: the names of those that are wanted; all, if there are none.
        declared: the signature, if it was asked for.
    """

    signature: str
    inputs: Inputs
    rows: int | None
    answers: Answers = PREDICTIONS
    outputs: tuple[str, ...] = ()
    declared: Signature | None = None

    def __len__(self) -> int:
        """The number of rows; 1 if they cannot be counted."""
        return 1 if self.rows is None else self.rows

    def __getitem__(self, rows: slice) -> Rows:
        """A copy of some of the rows; of all, if they cannot be cut."""
        if self.rows is None:
            return replace(self, inputs={a: values.copy() for a, values in self.inputs.items()})
        cut = {alias: values[rows].copy() for alias, values in self.inputs.items()}
        return replace(self, inputs=cut, rows=len(range(*rows.indices(self.rows))))

    @property
    def kind(self) -> object:
        """Equal for those that can be merged."""
        if self.rows is None:
            return object()
        tensors = {
            alias: None if isinstance(values, list) else (values.dtype, values.shape[1:])
            for alias, values in self.inputs.items()
        }
        return self.signature, self.outputs, tensors


def merged(batches: Sequence[Rows]) -> Rows:
    """Several of one kind as one."""
    first = batches[0]
    if len(batches) == 1:
        return first
    inputs = {
        alias: _concatenated([batch.inputs[alias] for batch in batches]) for alias in first.inputs
    }
    return replace(first, inputs=inputs, rows=sum(map(len, batches)))


def _concatenated(parts: list[NDArray[Any] | list[bytes]]) -> Any:
    if isinstance(parts[0], list):
        return [data for part in parts for data in part]
    return np.concatenate(parts)


def counted(inputs: Inputs, declared: Signature) -> int | None:
    """The number of rows, if inputs and outputs alike have them by what the signature declares.

    Without any there is nothing to cut.
    """
    specs = (*declared.inputs.values(), *declared.outputs.values())
    if not all(spec.shape and spec.shape[0] is None for spec in specs):
        return None
    sizes = {len(values) for values in inputs.values()}
    return sizes.pop() or None if len(sizes) == 1 else None
