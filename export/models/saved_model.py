"""A SavedModel that somebody wrote: its own signatures, as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import tensorflow as tf

from export.models import graph
from export.progress import say

_SLOT, _STATE = ".OPTIMIZER_SLOT", "optimizer/"
# What an earlier publication added to it.
_OURS = ("golden.npz", "model_card.json", "SHA256SUMS", "*.png", "*.svg")


def copy(source: Path, folder: Path) -> None:
    """Copy a SavedModel into a folder.

    Raises:
        InputError: the server could not run it.
    """
    graph.check(source)
    ignored = shutil.ignore_patterns(*_OURS)
    shutil.copytree(source, folder, ignore=ignored, dirs_exist_ok=True)
    weights = folder / "variables" / "variables"
    if weights.with_suffix(".index").exists():
        names = [name for name, _ in tf.train.list_variables(str(weights))]
        if slots := [name for name in names if _SLOT in name or name.startswith(_STATE)]:
            say(f"sign    {len(slots)} variables are an optimizer's, which no answer needs")
