"""Golden answers: inputs with the answers they must get, on any server, for as long as it serves.

They travel with the version as `assets.extra/golden.npz`. Its array `index` is JSON text that says
which of the other arrays belong to which signature, and how far an answer may be from its golden:

    {"serving_default": {"tolerance": 1e-05, "inputs": {"rooms": "serving_default/inputs/rooms"},
                         "outputs": {"price": "serving_default/outputs/price"}}}

The first dimension of an input is its rows; one without dimensions belongs to all rows. Strings are
fixed-width bytes, and with each such array comes `NAME/lengths`, int64 of its shape, because NumPy
takes zeros off their ends. Outputs that are not listed need not be compared. Floats may differ by
`tolerance` (times the largest magnitude in the golden output, where that is above 1), all else not
at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from export.errors import Refused
from export.npz import Array
from export.publication import warmup
from export.publication.serving_path import ServedModel

PATH = Path("assets.extra", "golden.npz")
TOLERANCE = 1e-5  # a few units in the last place of float32 sums


@dataclass(frozen=True, slots=True)
class Answers:
    """Inputs of one signature, and the outputs that the model gave for them, by alias."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Golden:
    """See the module.

    Attributes:
        signatures: name → its answers.
        tolerance: how far a float may be off.
        named: arrays that have a name of their own in the file, those of signatures or others.
    """

    signatures: Mapping[str, Answers]
    tolerance: float = TOLERANCE
    named: Mapping[str, Array] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `PATH` under a version's folder."""
        arrays = dict(self.named)
        names = {id(array): name for name, array in arrays.items()}
        index: dict[str, dict[str, object]] = {}
        for signature, answers in self.signatures.items():
            index[signature] = {"tolerance": self.tolerance}
            for side in ("inputs", "outputs"):
                listed = {}
                for alias, array in getattr(answers, side).items():
                    listed[alias] = names.get(id(array), f"{signature}/{side}/{alias}")
                    arrays[listed[alias]] = array
                index[signature][side] = listed
        path = folder / PATH
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, index=json.dumps(index), **_plain(arrays))

    def requests(self, name: str, served: ServedModel) -> Iterator[PredictionLog]:
        """One of each signature of the model `name` and of each batch size, for its warm-up."""
        for size in warmup.BATCH_SIZES:
            for signature, answers in self.signatures.items():
                inputs = {alias: _rows(array, size) for alias, array in answers.inputs.items()}
                method = served.signatures[signature].method_name
                yield warmup.request(name, signature, method, inputs)

    def parity(self, served: ServedModel) -> dict[str, float]:
        """Signature → how far its answers are from their golden ones, at most; see the module."""
        found = {}
        for signature, answers in self.signatures.items():
            got = served.run(signature, answers.inputs)
            differences = [_difference(want, got[name]) for name, want in answers.outputs.items()]
            found[signature] = max(differences, default=0.0)
        return found

    def check(self, parity: Mapping[str, float]) -> None:
        """Let a candidate pass or not.

        Raises:
            Refused: a signature differs by more than the tolerance.
        """
        for signature, difference in parity.items():
            if not difference <= self.tolerance:
                raise Refused(
                    f"signature {signature} differs by {difference:.2g} from its golden answers; "
                    f"at most {self.tolerance:g} is allowed"
                )


def _plain(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """As they are saved: nothing pickled."""
    plain = {}
    for name, array in arrays.items():
        plain[name] = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16
        if array.dtype.hasobject:
            plain[name] = array.astype(bytes)
            plain[f"{name}/lengths"] = np.vectorize(len, otypes=[np.int64])(array)
    return plain


def _rows(array: Array, size: int) -> Array:
    """So many rows, from the first again after the last."""
    return np.take(array, np.arange(size), axis=0, mode="wrap") if array.ndim else array


def _difference(want: Array, got: Array) -> float:
    """The largest; infinite where there is none to be had."""
    if want.shape != got.shape:
        return np.inf
    if want.dtype.kind not in "fcV":  # V: bfloat16
        return 0.0 if np.array_equal(want, got) else np.inf
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    want, got = want.astype(wide), got.astype(wide)
    with np.errstate(invalid="ignore"):  # NaN and infinity are what they are
        same = (want == got) | (np.isnan(want) & np.isnan(got))
        off = np.where(same, 0.0, np.abs(got - want))
    magnitude = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    return float(np.where(np.isnan(off), np.inf, off).max(initial=0.0) / magnitude)
