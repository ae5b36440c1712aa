"""Two versions asked the same: where they differ, how sure they are, how long they take."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy import runner
from deploy.operate.errors import InputError, Refused
from deploy.operate.stack.status import table
from deploy.release import golden
from deploy.release.errors import Unreadable
from tfserving_client import InvalidInput, ServingClient, ServingError
from tfserving_client.command.drawing import draw, side_by_side

Array = NDArray[Any]

_ROWS = 32  # of a request
_SHOWN = 10  # rows that differ
_SLOWER = 1.5


@dataclass(frozen=True, slots=True)
class Output:
    """How the two differ in one output.

    Attributes:
        rows: that were compared.
        differing: rows of another class, string or integer, or of floats that are not close.
        largest: the largest difference of a float; None of strings and integers.
        confidence: of each version the mean probability of the most probable class; None if it is
            no class scores.
    """

    rows: int
    differing: int
    largest: float | None
    confidence: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        versions: the candidate and the one it is compared with.
        outputs: by name.
        milliseconds: of each version p50 and p99 of a request of at most 32 rows.
        shown: rows that differ: the row's number, and both answers.
        problems: why the verdict is bad; none: the candidate does as the other.
    """

    versions: tuple[int, int]
    outputs: Mapping[str, Output]
    milliseconds: tuple[tuple[float, float], tuple[float, float]]
    shown: Sequence[tuple[int, str, str]]
    problems: Sequence[str]

    def as_json(self) -> str:
        """The comparison as one JSON object."""
        return json.dumps({"alike": not self.problems, **asdict(self)})

    def lines(self, inputs: Mapping[str, Array]) -> Iterator[str]:
        """The comparison as text; rows that differ as pictures, where the input is pictures."""
        candidate, other = self.versions
        for name, one in self.outputs.items():
            told = f"output   {name}: {one.differing} of {one.rows} rows differ"
            if one.largest is not None:
                told += f", by {one.largest:.2g} at most"
            if one.confidence:
                told += "; mean confidence {:.4f}, it was {:.4f}".format(*one.confidence)
            yield told
        for number, (p50, p99) in zip(self.versions, self.milliseconds, strict=True):
            yield f"time     version {number}: p50 {p50:.2f}, p99 {p99:.2f} ms a request"
        pictures = _pictures(inputs)
        if self.shown and pictures is not None:
            for start in range(0, len(self.shown), 5):
                some = self.shown[start : start + 5]
                yield from side_by_side([draw(pictures[row]) for row, *_ in some])
        if self.shown:
            titles = ("ROW", f"VERSION {candidate}", f"VERSION {other}")
            yield from table([titles, *((str(row), *said) for row, *said in self.shown)])
        for problem in self.problems:
            yield f"problem  {problem}"
        yield f"verdict  {candidate} does {'not do ' if self.problems else ''}as {other}"


def read(path: Path) -> dict[str, Array]:
    """Requests of a file: an `.npz` of arrays by input name, of as many rows each.

    Raises:
        InputError: it is none.
    """
    try:
        arrays = golden.unpacked(path)
    except Unreadable as error:
        raise InputError(str(error)) from None
    except Exception as error:  # a damaged file leads its readers to errors of any kind
        raise InputError(f"{path}: {error}; expected an .npz of arrays by input name") from None
    rows = {len(array) for array in arrays.values() if array.ndim}
    if len(rows) != 1 or not min(rows):
        raise InputError(
            f"{path} holds {sorted(rows) or 'no'} rows; expected arrays of as many rows each"
        )
    return arrays


def compare(
    name: str,
    folders: Mapping[int, Path],
    inputs: Mapping[str, Array],
    *,
    signature: str,
    agreement: float,
) -> Comparison:
    """Ask both versions on servers of their own, by turns.

    Args:
        name: the model's.
        folders: number → folder; the candidate first.
        inputs: arrays by input name.
        signature: which to ask.
        agreement: the share of rows that must not differ.

    Raises:
        runner.NoServer: there is none to serve them.
        InputError: these are no inputs of that signature.
        Refused: one of them does not load or does not answer.
    """
    candidate, other = folders
    try:
        with (
            runner.serve(folders[candidate], name=name, version=candidate) as first,
            runner.serve(folders[other], name=name, version=other) as second,
            ServingClient(first.grpc_url, model=name) as ours,
            ServingClient(second.grpc_url, model=name) as theirs,
        ):
            answers, times = _ask((ours, theirs), inputs, signature)
    except runner.NoServer:
        raise
    except InvalidInput as error:
        raise InputError(str(error)) from error
    except (runner.StartFailed, ServingError) as error:
        raise Refused(f"they cannot be compared: {error}") from error
    differing = np.zeros(len(next(iter(answers[0].values()))), bool)
    outputs, problems = {}, []
    for alias in answers[0]:
        one, found = _compared(answers[0][alias], answers[1][alias])
        outputs[alias] = one
        differing |= found
        if one.differing > (1 - agreement) * one.rows:
            problems.append(
                f"output {alias} differs in {one.differing / one.rows:.1%} of the rows; at most "
                f"{1 - agreement:.1%} may"
            )
    p50, p99 = ([float(np.percentile(each, q)) for each in times] for q in (50, 99))
    if p50[0] > _SLOWER * p50[1]:
        problems.append(f"a request takes {p50[0]:.1f} ms, with {other} {p50[1]:.1f} ms")
    shown = [
        (int(row), _said(answers[0], row), _said(answers[1], row))
        for row in np.flatnonzero(differing)[:_SHOWN]
    ]
    milliseconds = (p50[0], p99[0]), (p50[1], p99[1])
    return Comparison((candidate, other), outputs, milliseconds, shown, problems)


def _ask(
    servings: Sequence[ServingClient], inputs: Mapping[str, Array], signature: str
) -> tuple[list[dict[str, Array]], list[list[float]]]:
    """The outputs of each, and milliseconds of each request."""
    parts: list[list[Mapping[str, Array]]] = [[] for _ in servings]
    times: list[list[float]] = [[] for _ in servings]
    for start in range(0, golden.count(inputs), _ROWS):
        some = golden.part(inputs, slice(start, start + _ROWS))
        for number, serving in enumerate(servings):
            begun = time.perf_counter()
            parts[number].append(serving.predict(some, signature=signature).outputs)
            times[number].append(1e3 * (time.perf_counter() - begun))
    answers = [
        {alias: np.concatenate([p[alias] for p in each]) for alias in each[0]} for each in parts
    ]
    return answers, times


def _compared(ours: Array, theirs: Array) -> tuple[Output, Array]:
    """How an output differs, and in which rows."""
    if ours.shape != theirs.shape:
        return Output(len(ours), len(ours), None, None), np.ones(len(ours), bool)
    flat = [array.reshape(len(array), -1) for array in (ours, theirs)]
    rows: Array
    if ours.dtype.kind != "f":
        rows = (flat[0] != flat[1]).any(axis=1)
        return Output(len(rows), int(rows.sum()), None, None), rows
    one, other = (array.astype(np.float64) for array in flat)
    largest = float(np.abs(one - other).max(initial=0.0))
    if _are_scores(one) and _are_scores(other):
        rows = np.array(one.argmax(axis=1) != other.argmax(axis=1))
        confidence = float(one.max(axis=1).mean()), float(other.max(axis=1).mean())
        return Output(len(rows), int(rows.sum()), largest, confidence), rows
    rows = np.asarray(~np.isclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True).all(axis=1))
    return Output(len(rows), int(rows.sum()), largest, None), rows


def _are_scores(array: Array) -> bool:
    """Whether each row is probabilities of classes."""
    return (
        array.shape[1] > 1
        and array.min() >= 0
        and bool(np.allclose(array.sum(axis=1), 1, atol=1e-2))
    )


def _said(outputs: Mapping[str, Array], row: int) -> str:
    """One row's answer, short."""
    said = []
    for alias, array in outputs.items():
        one = array[row]
        if array.dtype.kind == "f" and array.ndim == 2 and _are_scores(array):
            said.append(f"{alias}: {one.argmax()} ({one.max():.1%})")
        else:
            said.append(f"{alias}: {np.array2string(np.asarray(one), precision=4, threshold=6)}")
    return ", ".join(said)


def _pictures(inputs: Mapping[str, Array]) -> Array | None:
    """The input that is grey pictures of bytes, if it is the only one."""
    arrays = list(inputs.values())
    if len(arrays) == 1 and arrays[0].dtype == np.uint8 and arrays[0].ndim == 3:
        return arrays[0]
    return None
