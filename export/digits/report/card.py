"""What the model card of digits says in addition to what every card says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from export.digits.checks.gate import Findings
from export.digits.data.sources import Dataset
from export.digits.training.recipes import Trained


def describe(dataset: Dataset, trained: Trained, findings: Findings) -> dict[str, Any]:
    """Plain JSON values; `model_card.schema.json` says what each means."""
    evaluation, newest = findings.evaluation, findings.newest
    return {
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
        "compared_with": newest and {"version": newest[0], "test_accuracy": newest[1]},
        "pictures": {name: asdict(figures) for name, figures in findings.pictures.items()},
    }
