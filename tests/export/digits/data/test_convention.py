"""Data that would be learnt, published, and then misread: told before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.digits.data import sources as data
from export.errors import InputError

EXPECTED = "expected white ink on black, 0..255, upright, as in MNIST"


def _load(
    path: Path, digits: data.Dataset, change: Callable[[Any], Any], images: int = 400
) -> data.Dataset:
    np.savez(
        path,
        x_train=change(digits.train.images[:images]),
        y_train=digits.train.labels[:images],
        x_test=digits.test.images[:images],
        y_test=digits.test.labels[:images],
    )
    return data.load(str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: 255 - x,
            "all are dark ink on light paper",
        ),
        (lambda x: 230 - x // 2, "all are dark ink on light paper"),
        (lambda x: x // 255, "pixels lie in 0..1; "),
        (lambda x: x // 16, "pixels lie in 0..15; "),
        (lambda x: x * 0, "pixels lie in 0..0; "),
    ],
)
@pytest.mark.parametrize("images", [20, 400])
def test_ground_and_range(
    tmp_path: Path, digits: data.Dataset, change: Callable[[Any], Any], words: str, images: int
) -> None:
    path = tmp_path / "mine.npz"
    with pytest.raises(InputError) as refusal:
        _load(path, digits, change, images)
    words = words.replace("all", {20: "18 of 18 images", 400: "367 of 367 images"}[images])
    assert str(refusal.value).startswith(f"{path}: x_train: {words}")
    assert EXPECTED in str(refusal.value)


TURNS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "transposed": (lambda x: x.transpose(0, 2, 1), "x.transpose(0, 2, 1)"),
    "mirrored": (lambda x: x[:, :, ::-1], "x[:, :, ::-1]"),
    "mirrored from top to bottom": (lambda x: x[:, ::-1], "x[:, ::-1, :]"),
    "upside down": (lambda x: x[:, ::-1, ::-1], "x[:, ::-1, ::-1]"),
    "turned a quarter to the left": (
        lambda x: np.rot90(x, 1, (1, 2)),
        "x.transpose(0, 2, 1)[:, :, ::-1]",
    ),
    "turned a quarter to the right": (
        lambda x: np.rot90(x, -1, (1, 2)),
        "x.transpose(0, 2, 1)[:, ::-1, :]",
    ),
    "transposed and upside down": (
        lambda x: x.transpose(0, 2, 1)[:, ::-1, ::-1],
        "x.transpose(0, 2, 1)[:, ::-1, ::-1]",
    ),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("images", [50, 400])
def test_orientation_and_what_undoes_it(
    tmp_path: Path, digits: data.Dataset, name: str, images: int
) -> None:
    turn, undoing = TURNS[name]
    path = tmp_path / "mine.npz"
    with pytest.raises(InputError) as refusal:
        _load(path, digits, turn, images)
    told = str(refusal.value)
    assert told.startswith(f"{path}: x_train: the digits are {name}: their likeness to MNIST")
    assert told.endswith(f"{EXPECTED}: save {undoing}")
    x = turn(digits.train.images)
    assert np.array_equal(eval(undoing, {"x": x}), digits.train.images)


def test_what_is_as_expected_is_said_in_one_line_for_each_part(
    tmp_path: Path, digits: data.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    _load(tmp_path / "mine.npz", digits, lambda x: x)
    train, test = capsys.readouterr().err.splitlines()
    assert train.startswith("data    x_train: borders 0 on average, pixels 0..255, likeness to MN")
    assert test.startswith("data    x_test: ")
    assert train.endswith("upright; expected white ink on black, 0..255, upright")


def test_other_things_than_digits_are_no_evidence(tmp_path: Path, digits: data.Dataset) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 28, 28), np.uint8)
    assert len(_load(tmp_path / "mine.npz", digits, lambda _: noise).train) == 367
