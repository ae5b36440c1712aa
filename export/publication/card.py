"""What every model card tells; each kind of model adds its own."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PATH = Path("assets.extra", "model_card.json")


def describe(
    name: str, signatures: Mapping[str, Any], parity: Mapping[str, float]
) -> dict[str, Any]:
    """A version's plain facts, as JSON values.

    Args:
        name: the model's.
        signatures: name → SignatureDef.
        parity: signature → the largest difference to its golden answers.
    """
    return {
        "model": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "signatures": {
            signature: {
                "method": definition.method_name,
                "inputs": _tensors(definition.inputs),
                "outputs": _tensors(definition.outputs),
            }
            for signature, definition in signatures.items()
        },
        "parity": dict(parity),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "tensorflow-serving-api": metadata.version("tensorflow-serving-api"),
        },
        "git_commit": _git_commit(),
    }


def write(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `PATH` under a version's folder."""
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(card, indent=2) + "\n")


def _tensors(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {
        alias: {
            "dtype": tf.dtypes.as_dtype(info.dtype).name,
            "shape": [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim],
        }
        for alias, info in infos.items()
    }


def _git_commit() -> str | None:
    """The commit that this code is at, `-dirty` where it was changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
