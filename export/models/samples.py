"""Rows to try a model on: those of a file, or made ones that fit its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export import npz
from export.errors import InputError
from export.npz import Array
from export.publication import manifest

_MADE_ROWS = 64  # the largest batch that the server forms
_FREE = 32  # what a free dimension is made: enough for five halvings of a picture


class Input(NamedTuple):
    """What a model takes.

    Attributes:
        dtype: NumPy's; object for strings.
        shape: None where a size is free, the first, rows, always; None where not even how many.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Samples:
    """Arrays by name, of as many rows each; without any, inputs are made."""

    name: str = ""
    sha256: str = ""
    arrays: Mapping[str, Array] = field(default_factory=dict)

    def truth(self, outputs: Iterable[str], inputs: AbstractSet[str]) -> dict[str, Array]:
        """What the outputs should be, by output: `y`, or `y_OUTPUT` where there are several.

        Raises:
            InputError: it does not say of which output it is the truth, or an array is of nothing.
        """
        outputs = list(outputs)
        known = {"x", "y", *inputs, *(f"y_{name}" for name in outputs)}
        if strange := self.arrays.keys() - known:
            raise InputError(
                f"{self.name} holds {min(strange)}, which is not an input or a truth; expected "
                f"{', '.join(sorted(known))}"
            )
        truth = {name: self.arrays[f"y_{name}"] for name in outputs if f"y_{name}" in self.arrays}
        if "y" in self.arrays:
            if truth or len(outputs) > 1:
                wanted = ", ".join(f"y_{name}" for name in outputs)
                raise InputError(f"{self.name}: y; expected {wanted}: the model has these outputs")
            truth[outputs[0]] = self.arrays["y"]
        for name, array in truth.items():
            if array.dtype.kind not in "biuf":
                raise InputError(
                    f"{self.name}: the truth of {name} is {array.dtype}; expected numbers"
                )
        return truth

    def inputs(self, wanted: Mapping[str, Input]) -> dict[str, Array]:
        """The rows as a signature takes them, by alias; `x` may stand for an only input.

        Raises:
            InputError: one is missing, or does not fit.
        """
        named = dict(self.arrays)
        if len(wanted) == 1 and "x" in named:
            named = {next(iter(wanted)): named["x"]} | named
        if missing := [alias for alias in wanted if alias not in named]:
            raise InputError(
                f"{self.name} lacks {', '.join(missing)}; the model's inputs are "
                f"{', '.join(wanted)}, and it holds {', '.join(self.arrays) or 'nothing'}"
            )
        return {
            alias: _fitted(named[alias], input, f"{self.name}: {alias}")
            for alias, input in wanted.items()
        }


def read(path: Path) -> Samples:
    """Read an `.npz` of arrays by the names of inputs, and `y`.

    Raises:
        InputError: it is none, or its arrays have different numbers of rows.
    """
    try:
        with path.open("rb") as file:
            arrays = npz.read(file, str(path))
        digest = manifest.digest(path)
    except OSError as error:
        raise InputError(f"--samples {path}: {error.strerror}") from error
    rows = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(rows.values())) > 1 or 0 in rows.values():
        held = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise InputError(f"{path} holds rows: {held}; expected as many of each, at least one")
    return Samples(path.name, digest, arrays)


def made(wanted: Mapping[str, Input]) -> dict[str, Array]:
    """Rows that fit names, dtypes and shapes; the same every time.

    Raises:
        InputError: an input does not say its shape.
    """
    random = np.random.default_rng(0)
    return {alias: _made(alias, input, random) for alias, input in wanted.items()}


def _made(alias: str, wanted: Input, random: np.random.Generator) -> Array:
    if wanted.shape is None:
        raise InputError(f"input {alias} does not say its shape; give --samples")
    shape = tuple(size or (_FREE if i else _MADE_ROWS) for i, size in enumerate(wanted.shape))
    if wanted.dtype.kind == "f":
        return np.asarray(random.random(shape), wanted.dtype)
    # The smallest numbers fit most: an index, a flag, a count; bytes are pixels.
    numbers = random.integers(256 if wanted.dtype == np.uint8 else 2, size=shape)
    if wanted.dtype.hasobject:
        return numbers.astype(bytes).astype(object)
    return numbers.astype(wanted.dtype)


def _fitted(values: Array, wanted: Input, called: str) -> Array:
    """Values as the model takes them, where that loses nothing."""
    if wanted.shape is not None:
        if values.ndim == len(wanted.shape) - 1 and wanted.shape[-1] == 1:
            values = values[..., np.newaxis]  # a column, as Keras makes of it
        fits = len(values.shape) == len(wanted.shape) and all(
            size in (None, got) for size, got in zip(wanted.shape, values.shape, strict=True)
        )
        if not fits:
            shape = ", ".join("n" if size is None else str(size) for size in wanted.shape)
            raise InputError(f"{called} is {values.dtype} {values.shape}; expected ({shape})")
    is_text = values.dtype.kind in "SU"
    if wanted.dtype.hasobject and is_text:
        values = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
        return values.astype(object)
    if not (is_text or wanted.dtype.hasobject or values.dtype.kind not in "biuf"):
        with np.errstate(invalid="ignore"):  # NaN as an integer, which is refused below
            cast = values.astype(wanted.dtype)
        if wanted.dtype.kind not in "biu" or np.array_equal(cast, values):
            return cast
    expected = "strings" if wanted.dtype.hasobject else wanted.dtype.name
    raise InputError(f"{called} is {values.dtype}; expected {expected}, or what fits it exactly")
