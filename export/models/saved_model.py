"""A SavedModel that somebody wrote: its own signatures, as they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.errors import InputError, reason
from export.models.samples import Input
from export.progress import say
from export.publication.golden import TOLERANCE
from export.publication.serving_path import Array

_SLOT, _STATE = ".OPTIMIZER_SLOT", "optimizer/"
# What an earlier publication put beside it.
_OURS = ("golden.npz", "model_card.json", "SHA256SUMS", "*.png", "*.svg")


class SavedModel:
    """A SavedModel, loaded in Python's way, which is another than the server's.

    Raises:
        InputError: it cannot be loaded, or not be served.
    """

    tolerance = TOLERANCE

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._loaded = tf.saved_model.load(str(folder), tags=[tf.saved_model.SERVING])
        except Exception as error:  # of a damaged file, or a graph that cannot be read
            raise InputError(f"{folder} cannot be loaded: {reason(error)}") from error
        self._functions: Mapping[str, Any] = self._loaded.signatures
        if not self._functions:
            raise InputError(f"{folder} has no signature: save it with signatures=…")
        self.signatures = {
            name: {
                alias: _input(f"input {alias} of signature {name}", spec)
                for alias, spec in function.structured_input_signature[1].items()
            }
            for name, function in self._functions.items()
        }
        names = list(self.signatures)
        self.main = "serving_default" if "serving_default" in names else names[0]

    def facts(self) -> dict[str, Any]:
        """What its card tells of it."""
        return {"parameters": None, "layers": [], "weights": "as given"}

    def answer(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, as it computes them here."""
        tensors = {alias: tf.constant(values) for alias, values in inputs.items()}
        return {
            name: value.numpy() for name, value in self._functions[signature](**tensors).items()
        }

    def score(self, _truth: Mapping[str, Array], _outputs: Mapping[str, Array]) -> None:
        """It does not tell what it was compiled with."""

    def save(self, folder: Path) -> None:
        """Copy it."""
        ignored = shutil.ignore_patterns(*_OURS)
        shutil.copytree(self._folder, folder, ignore=ignored, dirs_exist_ok=True)
        if (self._folder / "variables" / "variables.index").exists():
            variables = tf.train.list_variables(str(self._folder / "variables" / "variables"))
            if state := [name for name, _ in variables if _SLOT in name or name.startswith(_STATE)]:
                say(f"sign    {len(state)} variables are an optimizer's, which no answer needs")


def _input(called: str, spec: tf.TensorSpec) -> Input:
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    if shape and shape[0] is not None:
        raise InputError(
            f"{called} has a fixed batch dimension of {shape[0]}: the server needs a free one; "
            "save it with a tf.TensorSpec that begins with None"
        )
    return Input(np.dtype(spec.dtype.as_numpy_dtype), shape)
