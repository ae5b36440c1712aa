"""Send two versions the same requests: where they differ, their confidence and latency."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy import runner
from deploy.operate.errors import InputError, Refused
from deploy.operate.stack.status import table
from deploy.release import golden
from deploy.release.requests import Request
from tfserving_client import InvalidInput, NotFound, Rejected, ServingClient, ServingError
from tfserving_client.command.drawing import draw, side_by_side

Array = NDArray[Any]
Outputs = Mapping[str, Array]

_SHOWN = 10  # rows that differ
_SLOWER, _TIMED = 1.5, 100  # times the p50 of the other version, and requests needed for that
_WIDTH = 60  # characters of an array in the table
_REFUSALS = (
    InvalidInput,
    NotFound,
    Rejected,
)  # the error of a version that does not accept a request


@dataclass(frozen=True, slots=True)
class Output:
    """How the two differ in one output.

    Attributes:
        rows: number of compared rows.
        differing: rows with another class, string or integer, or with floats that are not close.
        largest: the largest difference of a float; None for strings and integers.
        confidence: mean probability of the most probable class, for both versions; None if the
            output is not class scores.
    """

    rows: int
    differing: int
    largest: float | None
    confidence: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row that differs.

    Attributes:
        row: its number, counted over all requests.
        input: as short text; "" if there is a `picture`.
        picture: grey, uint8 [height, width], if the input is one.
        answers: of the candidate and of the other.
    """

    row: int
    input: str
    picture: Array | None
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result.

    Attributes:
        versions: the candidate and the one it is compared with.
        requests: number that both have answered.
        refused: number of requests that neither accepts.
        outputs: by name; with the signature before it if requests use several.
        milliseconds: p50 and p99 of a request for both versions; empty if both answered none.
        shown: rows that differ, the first ten.
        problems: why the verdict is bad; empty: the candidate behaves like the other.
    """

    versions: tuple[int, int]
    requests: int
    refused: int
    outputs: Mapping[str, Output]
    milliseconds: Sequence[Sequence[float]]
    shown: Sequence[Row]
    problems: Sequence[str]

    def as_json(self) -> str:
        """The comparison as one JSON object."""
        fields = asdict(self)
        fields["shown"] = [(one.row, *one.answers, one.input) for one in self.shown]
        return json.dumps({"alike": not self.problems, **fields})

    def lines(self) -> Iterator[str]:
        """The comparison as text; rows that differ as pictures, if the input is one."""
        candidate, other = self.versions
        neither = f"; {self.refused} more are accepted by neither" if self.refused else ""
        yield f"asked    {self.requests} requests answered by both{neither}"
        for name, one in self.outputs.items():
            told = f"output   {name}: {one.differing} of {one.rows} rows differ"
            if one.largest is not None:
                told += f", by {one.largest:.2g} at most"
            if one.confidence:
                told += "; mean confidence {:.4f}, it was {:.4f}".format(*one.confidence)
            yield told
        for number, (p50, p99) in zip(self.versions, self.milliseconds, strict=False):
            yield f"time     version {number}: p50 {p50:.2f}, p99 {p99:.2f} ms a request"
        pictures = [one.picture for one in self.shown if one.picture is not None]
        for start in range(0, len(pictures), 5):
            yield from side_by_side([draw(one) for one in pictures[start : start + 5]])
        if self.shown:
            asked = ["INPUT"] if any(one.input for one in self.shown) else []
            titles = ("ROW", f"VERSION {candidate}", f"VERSION {other}", *asked)
            rows = [(str(one.row), *one.answers, one.input) for one in self.shown]
            yield from table([titles, *(row[: len(titles)] for row in rows)])
        for problem in self.problems:
            yield f"problem  {problem}"
        behaves = "does not behave" if self.problems else "behaves"
        yield f"verdict  {candidate} {behaves} like {other}"


@contextlib.contextmanager
def served(name: str, folders: Mapping[int, Path]) -> Iterator[tuple[ServingClient, ServingClient]]:
    """Serve both versions, each on a temporary server.

    Args:
        name: the model's.
        folders: number → folder; the candidate first.

    Raises:
        runner.NoServer: no server can be started here.
        Refused: one of them does not load, or fails later.
    """
    candidate, other = folders
    try:
        with (
            runner.serve(folders[candidate], name=name, version=candidate) as first,
            runner.serve(folders[other], name=name, version=other) as second,
            ServingClient(first.grpc_url, model=name) as ours,
            ServingClient(second.grpc_url, model=name) as theirs,
        ):
            yield ours, theirs
    except runner.NoServer:
        raise
    except (runner.StartFailed, ServingError) as error:
        raise Refused(f"they cannot be compared: {error}") from error


def compare(
    servings: tuple[ServingClient, ServingClient],
    versions: tuple[int, int],
    requests: Sequence[Request],
    *,
    agreement: float,
) -> Comparison:
    """Send both the same requests, in turn.

    Args:
        servings: the candidate's server and the other's.
        versions: their numbers.
        requests: at least one.
        agreement: the share of rows that have to agree.

    Raises:
        InputError: neither accepts any of the requests.
        ServingError: a call failed.
    """
    _, other = versions
    answered: list[tuple[Request, Outputs, Outputs]] = []
    refused: list[ServingError] = []  # refused by the candidate, and answered by the other
    neither: list[ServingError] = []
    for request in requests:
        ours, theirs = (_ask(each, request) for each in servings)
        if isinstance(ours, ServingError):
            (neither if isinstance(theirs, ServingError) else refused).append(ours)
        elif isinstance(theirs, ServingError):
            neither.append(theirs)
        else:
            answered.append((request, ours, theirs))
    if len(neither) == len(requests):
        raise InputError(str(neither[0]))
    outputs, shown, problems = _differences(answered)
    for alias, one in outputs.items():
        if one.differing > (1 - agreement) * one.rows:
            problems.append(
                f"output {alias} differs in {one.differing / one.rows:.1%} of the rows; at most "
                f"{1 - agreement:.1%} may"
            )
    if refused:
        problems.append(
            f"{len(refused)} of {len(requests)} requests are refused, but answered by {other}: "
            f"{refused[0]}"
        )
    milliseconds = _milliseconds(servings, [request for request, *_ in answered])
    if milliseconds and milliseconds[0][0] > _SLOWER * milliseconds[1][0]:
        ours_p50, theirs_p50 = (p50 for p50, _ in milliseconds)
        problems.append(f"a request takes {ours_p50:.1f} ms, with {other} {theirs_p50:.1f} ms")
    return Comparison(versions, len(answered), len(neither), outputs, milliseconds, shown, problems)


def _ask(serving: ServingClient, request: Request) -> Outputs | ServingError:
    """The outputs, or the error."""
    try:
        return serving.predict(
            request.inputs, signature=request.signature, raw=request.as_sent
        ).outputs
    except _REFUSALS as error:
        return error


def _milliseconds(
    servings: Sequence[ServingClient], requests: Sequence[Request]
) -> list[list[float]]:
    """p50 and p99 for each version, of requests that it has answered; empty without requests."""
    times: list[list[float]] = []
    for request in itertools.islice(itertools.cycle(requests), _TIMED):
        both = []
        for each in servings:
            begun = time.perf_counter()
            _ask(each, request)
            both.append(1e3 * (time.perf_counter() - begun))
        times.append(both)
    found: list[list[float]] = np.percentile(times, (50, 99), axis=0).T.tolist() if times else []
    return found


def _differences(
    answered: Sequence[tuple[Request, Outputs, Outputs]],
) -> tuple[dict[str, Output], list[Row], list[str]]:
    """Differences by output, the first rows that differ, and outputs that one version lacks."""
    several = len({request.signature for request, *_ in answered}) > 1
    parts: dict[str, list[Output]] = {}
    lacking: dict[str, str] = {}
    shown: list[Row] = []
    start = 0
    for request, ours, theirs in answered:
        rows = golden.count(theirs)
        differing = np.zeros(rows, bool)
        for alias in theirs.keys() | ours.keys():
            name = f"{request.signature} {alias}" if several else alias
            if alias in ours and alias in theirs:
                one, found = _compared(np.atleast_1d(ours[alias]), np.atleast_1d(theirs[alias]))
                parts.setdefault(name, []).append(one)
                differing |= found if len(found) == rows else found.any()
            else:
                lacking[name] = f"output {name} is missing in the answers of one version"
        for row in np.flatnonzero(differing)[: _SHOWN - len(shown)]:
            answers = _said(ours, row), _said(theirs, row)
            shown.append(Row(start + int(row), *_input(request.inputs, row), answers))
        start += rows
    return {name: _summed(parts[name]) for name in sorted(parts)}, shown, [*lacking.values()]


def _summed(parts: Sequence[Output]) -> Output:
    """One output, over all requests."""
    rows = sum(one.rows for one in parts)
    largest = [one.largest for one in parts if one.largest is not None]
    sure = [(*one.confidence, one.rows) for one in parts if one.confidence]
    confidence = None
    if sure and len(sure) == len(parts):
        ours, theirs, weights = zip(*sure, strict=True)
        confidence = (
            float(np.average(ours, weights=weights)),
            float(np.average(theirs, weights=weights)),
        )
    differing = sum(one.differing for one in parts)
    return Output(rows, differing, max(largest, default=None), confidence)


def _compared(ours: Array, theirs: Array) -> tuple[Output, Array]:
    """How an output of one request differs, and in which rows."""
    if ours.shape != theirs.shape:
        return Output(len(ours), len(ours), None, None), np.ones(len(ours), bool)
    if not ours.size:
        return Output(len(ours), 0, None, None), np.zeros(len(ours), bool)
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
    """Whether each row holds probabilities of classes."""
    return (
        array.shape[1] > 1
        and array.min() >= 0
        and bool(np.allclose(array.sum(axis=1), 1, atol=1e-2))
    )


def _said(arrays: Outputs, row: int) -> str:
    """One row of some arrays, as short text."""
    said = []
    for alias, array in arrays.items():
        one = array[row] if array.ndim and row < len(array) else array
        if array.dtype.kind == "f" and array.ndim == 2 and _are_scores(array):
            said.append(f"{alias}: {one.argmax()} ({one.max():.1%})")
        else:
            text = repr(one)  # numpy would drop the zeros at the end of a string
            if isinstance(one, np.ndarray | np.generic):
                text = np.array2string(np.asarray(one), precision=4, threshold=6, edgeitems=2)
            said.append(f"{alias}: {shorten(text, _WIDTH, placeholder='…')}")
    return ", ".join(said)


def _input(inputs: Mapping[str, Array], row: int) -> tuple[str, Array | None]:
    """The input of a row: grey pictures of bytes unchanged, if that is the only input."""
    arrays = list(inputs.values())
    if len(arrays) == 1 and arrays[0].dtype == np.uint8 and arrays[0].ndim == 3:
        return "", arrays[0][row]
    return _said(inputs, row), None
