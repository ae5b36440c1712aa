from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from export.digits.checks.evaluation import evaluate
from export.digits.data.sources import Split
from export.digits.report import pictures
from export.digits.training.recipes import EpochReport

NAMES = {"curves.png", "confusion.png", "mistakes.png", "calibration.png"}


def _draw(folder: Path, *, epochs: int, wrong: int) -> dict[str, NDArray[np.uint8]]:
    """Pictures of a run in which so many of 100 answers are wrong."""
    folder.mkdir(exist_ok=True)
    reports = [
        EpochReport(i + 1, epochs, 1 / (i + 1), 1 / (i + 2), 0.9, 1.0) for i in range(epochs)
    ]
    labels = np.arange(100, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
    probabilities = np.eye(10, dtype=np.float32)[(labels + (np.arange(100) < wrong)) % 10]
    figures = pictures.draw(reports, evaluate(probabilities, labels), Split(images, labels))
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=100)
    return {path.name: np.asarray(Image.open(path).convert("L")) for path in folder.glob("*.png")}


@pytest.mark.parametrize(("epochs", "wrong"), [(1, 0), (2, 1), (300, 100)])
def test_pictures_of_runs_of_any_length_and_success(
    tmp_path: Path, epochs: int, wrong: int
) -> None:
    drawn = _draw(tmp_path, epochs=epochs, wrong=wrong)
    assert drawn.keys() == NAMES
    for pixels in drawn.values():
        assert min(pixels.shape) > 100
        assert pixels.min() < 100 < pixels.max()


def test_every_mistake_is_seen(tmp_path: Path) -> None:
    none, some, more = (
        _draw(tmp_path / str(wrong), epochs=2, wrong=wrong)["mistakes.png"] for wrong in (0, 3, 9)
    )
    # One row of pictures each; noise in a picture leaves few white pixels.
    assert (none < 255).mean() < (some < 255).mean() < (more < 255).mean()
