"""Golden answers: what a version has to answer, compared with a server that serves it.

They are part of the version, written when it was published by `export/publication/golden.py`.
Answers are compared by the same rule as at publication.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.release import card
from deploy.release.errors import Unreadable
from tfserving_client import InvalidInput, ServingClient, ServingError
from tfserving_client.grpc.messages import Example

Array = NDArray[Any]

PATH = Path("assets.extra", "golden.npz")
MOST_BYTES = 1 << 30  # of all arrays together
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
# zipfile does not unpack others in parts of bounded size.
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


@dataclass(frozen=True, slots=True)
class Answers:
    """The golden answers of one signature.

    Attributes:
        inputs: alias → array [n, …], or [] if one value is for all rows. Strings are bytes in
            arrays of dtype object.
        outputs: alias → array; other outputs are not compared.
        tolerance: how far a float may be off, times the largest magnitude of its output if above 1.
        method: of its SignatureDef: decides between Classify, Regress and Predict.
        examples: features of the tf.Examples that are the only input, for Classify and Regress.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    tolerance: float
    method: str = ""
    examples: Sequence[Mapping[str, Any]] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return count(self.inputs)

    def row(self, index: int) -> Answers:
        """One row of the inputs; the outputs stay those of all rows."""
        rows = slice(index, index + 1)
        return replace(self, inputs=part(self.inputs, rows), examples=self.examples[rows])


def count(inputs: Mapping[str, Array]) -> int:
    """The number of rows of inputs (alias → array); an array without dimensions is for all rows."""
    return max((len(array) for array in inputs.values() if array.ndim), default=1)


def part(inputs: Mapping[str, Array], rows: slice) -> dict[str, Array]:
    """Some of their rows."""
    return {alias: array[rows] if array.ndim else array for alias, array in inputs.items()}


def read(folder: Path) -> Mapping[str, Answers]:
    """The golden answers of the version in a folder, by signature.

    Raises:
        Unreadable: there are none, or the file is damaged; nothing is unpickled, and at most a
            gibibyte is read.
    """
    described = card.read(folder)
    methods = described.methods if described else {}
    path = folder / PATH
    try:
        arrays = unpacked(path)
        return {
            signature: _answers(arrays, entry, methods.get(signature, ""))
            for signature, entry in json.loads(str(arrays["index"])).items()
        }
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable(
            f"{path} is missing, so there are no golden answers to compare with"
        ) from None
    except Exception as error:  # a damaged file can raise errors of any kind
        raise Unreadable(
            f"{path} holds no golden answers: {type(error).__name__}: {error}"
        ) from error


def disagreements(
    serving: ServingClient,
    golden: Mapping[str, Answers],
    *,
    version: int | None = None,
    label: str | None = None,
) -> list[str]:
    """What differs from the golden answers, one sentence each; empty if nothing does.

    Values that REST cannot carry are not asked over REST.

    Args:
        serving: a client of the server, over either protocol.
        golden: from `read`.
        version: ask this version; the default is the newest that is loaded.
        label: ask the version with this label.
    """
    found = []
    for signature, answers in golden.items():
        try:
            got = ask(serving, signature, answers, version=version, label=label)
        except InvalidInput as error:
            if "ask over gRPC" not in str(error):
                found.append(f"signature {signature}: {error}")
        except ServingError as error:
            found.append(f"signature {signature} does not answer: {error}")
        else:
            found += _differences(signature, answers, got)
    return found


def ask(
    serving: ServingClient, signature: str, answers: Answers, **which: Any
) -> Mapping[str, Array]:
    """The answer of a server (output → array), by the API that the signature is made for.

    Args:
        serving: a client of the server.
        signature: its name.
        answers: the inputs, and the names of the outputs.
        which: `version` or `label`, as for `ServingClient.predict`.

    Raises:
        ServingError: the call failed.
    """
    if answers.method == CLASSIFY:
        rows = serving.classify_examples(answers.examples, signature=signature, **which)
        labels = [[found.label.encode() for found in row] for row in rows]
        scores = [[found.score for found in row] for row in rows]
        return {"classes": np.array(labels, object), "scores": np.array(scores, np.float32)}
    if answers.method == REGRESS:
        values = serving.regress_examples(answers.examples, signature=signature, **which)
        # A column in the graph; in the answer, its values.
        return {
            alias: values.reshape(want.shape) if values.size == want.size else values
            for alias, want in answers.outputs.items()
        }
    wanted = list(answers.outputs)
    return serving.predict(answers.inputs, signature=signature, outputs=wanted, **which).outputs


def unpacked(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz`; nothing is unpickled.

    Raises:
        Unreadable: they are more than `MOST_BYTES`, or not packed as numpy does.
        Exception: any of numpy and zipfile, if the file is damaged or not an `.npz`.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise Unreadable(f"{path} unpacks to more than {MOST_BYTES:,} bytes")
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise Unreadable(f"{path} is not packed with a method that numpy uses")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _answers(arrays: Mapping[str, Array], entry: Mapping[str, Any], method: str) -> Answers:
    inputs, outputs = (
        {alias: _array(arrays, name) for alias, name in entry[side].items()}
        for side in ("inputs", "outputs")
    )
    examples = []
    if method in {CLASSIFY, REGRESS}:
        (serialized,) = inputs.values()
        examples = [_features(Example.FromString(data)) for data in serialized.flat]
    return Answers(inputs, outputs, float(entry["tolerance"]), method, examples)


def _array(arrays: Mapping[str, Array], name: str) -> Array:
    """An array for the client: strings keep the zeros at their ends."""
    array = arrays[name]
    if array.dtype.kind != "S":
        return array
    lengths = np.minimum(arrays[f"{name}/lengths"], array.itemsize)
    padded = zip(array.ravel().tolist(), lengths.ravel().tolist(), strict=True)
    strings = np.empty(array.size, object)
    strings[:] = [value.ljust(length, b"\0") for value, length in padded]
    return strings.reshape(array.shape)


def _features(example: Any) -> dict[str, Any]:
    return {
        name: np.frombuffer(feature.float_list.value, "<f4")
        if feature.HasField("float_list")
        else list(feature.int64_list.value or feature.bytes_list.value)
        for name, feature in example.features.feature.items()
    }


def _differences(signature: str, answers: Answers, got: Mapping[str, Array]) -> Iterator[str]:
    for alias, want in answers.outputs.items():
        what = f"signature {signature}: output {alias}"
        if alias not in got:
            yield f"{what} is missing in the answer"
        elif got[alias].shape != want.shape:
            yield f"{what} has shape {got[alias].shape}; expected {want.shape}"
        elif difference := _difference(want, got[alias], answers.tolerance):
            yield f"{what} {difference}"


def _difference(want: Array, got: Array, tolerance: float) -> str:
    """How much an output differs, in words; empty if it does not."""
    if want.dtype.kind not in "fc":
        wrong, by = np.asarray(want != got), "none may"
    elif got.dtype.kind == "O":
        return f"holds strings; expected {want.dtype}"
    else:
        wide = np.complex128 if want.dtype.kind == "c" else np.float64
        want, got = want.astype(wide), got.astype(wide)
        allowed = tolerance * np.abs(want[np.isfinite(want)]).max(initial=1.0)
        with np.errstate(invalid="ignore"):  # NaN and infinity have to be equal
            same = (want == got) | (np.isnan(want) & np.isnan(got))
            off = np.where(same, 0.0, np.abs(got - want))
        most = np.where(np.isnan(off), np.inf, off).max(initial=0.0)
        wrong, by = ~(off <= allowed), f"by up to {most:.2g}; {allowed:.2g} is allowed"
    rows = np.atleast_1d(wrong).any(axis=tuple(range(1, wrong.ndim)))
    return f"differs in {rows.sum()} of {rows.size} rows, {by}" if rows.any() else ""
