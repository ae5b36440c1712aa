"""The model card: what a version is, where it comes from and how good it is."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.digits.checks.gate import Findings
from export.digits.data.sources import Dataset
from export.digits.training.recipes import Trained

PATH = Path("assets.extra", "model_card.json")


def describe(name: str, dataset: Dataset, trained: Trained, findings: Findings) -> dict[str, Any]:
    """The card as plain JSON values; `model_card.schema.json` says what each means."""
    evaluation = findings.evaluation
    return {
        "model": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "train": len(dataset.train),
            "validation": len(dataset.validation),
            "test": len(dataset.test),
            "note": dataset.note,
        },
        "network": {
            "parameters": trained.network.count_params(),
            "layers": [layer.get_config()["name"] for layer in trained.network.layers],
        },
        "recipe": asdict(trained.recipe),
        "training": {
            "seconds": round(trained.seconds, 2),
            "devices": trained.devices,
            "epochs": [asdict(epoch) for epoch in trained.epochs],
        },
        "metrics": {
            "test_accuracy": evaluation.accuracy,
            "validation_accuracy": trained.epochs[-1].validation_accuracy,
            "validation_loss": trained.epochs[-1].validation_loss,
        },
        "per_class": [asdict(figures) for figures in evaluation.classes],
        "confusion": evaluation.confusion,
        "mistakes": [asdict(mistake) for mistake in evaluation.mistakes],
        "calibration": {
            "expected_calibration_error": evaluation.calibration_error,
            "reliability": [asdict(bin) for bin in evaluation.reliability],
        },
        "compared_with": asdict(findings.newest) if findings.newest else None,
        "signatures": {
            signature: {
                "method": definition.method_name,
                "inputs": _tensors(definition.inputs),
                "outputs": _tensors(definition.outputs),
            }
            for signature, definition in findings.signatures.items()
        },
        "parity": dict(findings.parity),
        "pictures": {name: asdict(figures) for name, figures in findings.pictures.items()},
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
