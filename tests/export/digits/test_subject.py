"""Other images or other classes are a change of one line, and nothing else breaks."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from export.publication.serving_path import ServedModel
from tests.forks import Fork

Images = NDArray[np.uint8]
LETTERS = string.ascii_uppercase


def _flags(labels: NDArray[np.int64], random: np.random.Generator) -> Images:
    """Two fields of colour, 32×32×3; which two is the class."""
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 40], [40, 40, 40]])
    images = np.zeros((len(labels), 32, 32, 3))
    images[:, :16] = colours[labels][:, np.newaxis, np.newaxis]
    images[:, 16:] = colours[(labels + 1) % 5][:, np.newaxis, np.newaxis]
    return (images + random.integers(0, 30, (len(labels), 1, 1, 1))).astype(np.uint8)


def _letters(labels: NDArray[np.int64], random: np.random.Generator) -> Images:
    """As MNIST has its digits: white on black, the longer side 20 pixels, centred by mass."""
    pages = np.zeros((len(labels), 28, 28), np.uint8)
    for page, label in zip(pages, labels, strict=True):
        drawn = Image.new("L", (200, 200))
        font = ImageFont.load_default(int(random.integers(80, 120)))
        weight = int(random.integers(2, 5))
        ImageDraw.Draw(drawn).text(
            (100, 100), LETTERS[label], 255, font, anchor="mm", stroke_width=weight
        )
        letter = drawn.crop(drawn.getbbox())
        letter.thumbnail((20, 20), Image.Resampling.BOX)
        ink = np.asarray(letter, float)
        mass = [np.average(np.arange(n), weights=ink.sum(1 - i)) for i, n in enumerate(ink.shape)]
        top, left = (round(14 - at) for at in mass)
        page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return pages


@pytest.mark.parametrize(
    ("old", "new", "draw", "classes", "signature", "training"),
    [
        (
            "SIDE, CHANNELS = 28, 1",
            "SIDE, CHANNELS = 32, 3",
            _flags,
            5,
            [None, 32, 32, 3],
            ["--epochs=8"],
        ),
        (
            'tuple("0123456789")',
            f'tuple("{LETTERS}")',
            _letters,
            26,
            [None, 28, 28],
            ["--recipe=reference", "--epochs=20"],
        ),
    ],
    ids=["colour", "letters"],
)
def test_another_subject_is_one_line(
    old: str,
    new: str,
    draw: Callable[[NDArray[np.int64], np.random.Generator], Images],
    classes: int,
    signature: list[int | None],
    training: list[str],
    tmp_path: Path,
) -> None:
    shutil.copytree("export", tmp_path / "export")
    subject = tmp_path / "export" / "digits" / "subject.py"
    text = subject.read_text()
    if classes == 5:  # how many there are is one line, what they look like another
        text = text.replace('= tuple("0123456789")', '= tuple("abcde")', 1)
    assert text.count(old)
    subject.write_text(text.replace(old, new, 1))

    random = np.random.default_rng(0)
    data: dict[str, Any] = {}
    for part, count in (("train", 30), ("test", 10)):
        data[f"y_{part}"] = np.tile(np.arange(classes), count)
        data[f"x_{part}"] = draw(data[f"y_{part}"], random)
    np.savez(tmp_path / "own.npz", **data)
    arguments = [f"--repository={tmp_path / 'models'}", f"--data={tmp_path / 'own.npz'}"]
    more = [*training, "--min-accuracy=0.6", "--name=other"]
    run = Fork(
        "tests.export.digits.changed", [str(tmp_path), *arguments, *more], tmp_path / "output"
    )
    assert run.wait() == 0, (tmp_path / "output").read_text()

    version = tmp_path / "models" / "other" / "1"
    card = json.loads((version / "assets.extra" / "model_card.json").read_text())
    assert card["signatures"]["serving_default"]["inputs"]["images"]["shape"] == signature
    assert len(card["per_class"]) == len(card["confusion"]) == classes
    with ServedModel(version) as served:
        answers = served.run("serving_default", data["x_test"])
    assert answers["probabilities"].shape == (classes * 10, classes)
    assert (answers["digits"] == data["y_test"]).mean() >= 0.6
