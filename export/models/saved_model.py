"""A SavedModel that somebody wrote: its own signatures, as they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from export.errors import InputError, reason
from export.models import graph
from export.npz import Array
from export.progress import say
from export.publication.golden import TOLERANCE

_SLOT, _STATE = ".OPTIMIZER_SLOT", "optimizer/"
# What an earlier publication put beside it.
_OURS = ("golden.npz", "model_card.json", "SHA256SUMS", "*.png", "*.svg")


class SavedModel:
    """A SavedModel, loaded in Python's way, which is another than the server's.

    Raises:
        InputError: it cannot be loaded, or the server could not run it.
    """

    tolerance = TOLERANCE

    def __init__(self, folder: Path) -> None:
        graph.check(folder)
        self._folder = folder
        try:
            self._loaded = tf.saved_model.load(str(folder), tags=[tf.saved_model.SERVING])
        except Exception as error:  # of a damaged file, or a graph that cannot be read
            raise InputError(f"{folder} cannot be loaded: {reason(error)}") from error
        if not self._loaded.signatures:
            raise InputError(f"{folder} has no signature: save it with signatures=…")

    def save(self, folder: Path) -> None:
        """Copy it."""
        ignored = shutil.ignore_patterns(*_OURS)
        shutil.copytree(self._folder, folder, ignore=ignored, dirs_exist_ok=True)
        weights = folder / "variables" / "variables"
        if weights.with_suffix(".index").exists():
            names = [name for name, _ in tf.train.list_variables(str(weights))]
            if slots := [name for name in names if _SLOT in name or name.startswith(_STATE)]:
                say(f"sign    {len(slots)} variables are an optimizer's, which no answer needs")

    def answer(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, as it computes them here."""
        tensors = {alias: tf.constant(values) for alias, values in inputs.items()}
        answers = self._loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in answers.items()}

    def score(self, _truth: Mapping[str, Array], _outputs: Mapping[str, Array]) -> None:
        """It does not tell what it was compiled with."""

    def facts(self) -> dict[str, Any]:
        """What its card tells of it."""
        return {"parameters": None, "layers": [], "weights": "as given"}
