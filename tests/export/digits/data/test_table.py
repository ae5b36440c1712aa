"""Kaggle's CSV: a label and 784 pixels in a row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from export.digits.data import sources as data
from export.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (70, 784), np.uint8)
LABELS = RNG.integers(0, 10, 70, np.uint8)
NAMES = ",".join(["label", *(f"pixel{i}" for i in range(784))]) + "\n"


def _rows(start: int, end: int, *, label: bool = True) -> str:
    rows = np.column_stack([LABELS, IMAGES]) if label else IMAGES
    return "".join(",".join(map(str, row)) + "\n" for row in rows[start:end].tolist())


@pytest.mark.parametrize("header", [NAMES, ""])
@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_one_table_is_divided(tmp_path: Path, header: str, as_folder: bool, packed: bool) -> None:
    path = tmp_path / ("train.csv.gz" if packed else "train.csv")
    content = (header + _rows(0, 70)).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    (tmp_path / "test.csv").write_text(NAMES.removeprefix("label,") + _rows(0, 3, label=False))
    dataset = data.load(str(tmp_path if as_folder else path))
    assert np.array_equal(dataset.test.images.reshape(-1, 784), IMAGES[60:])
    assert np.array_equal(dataset.train.labels, LABELS[:55])
    assert dataset.note == f"the last 10 rows of {path.name} are the test images"


def test_two_tables(tmp_path: Path) -> None:
    (tmp_path / "mnist_train.csv").write_text(_rows(0, 50))
    (tmp_path / "mnist_test.csv").write_text(_rows(50, 70))
    dataset = data.load(str(tmp_path))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (46, 4, 20)
    assert np.array_equal(dataset.test.labels, LABELS[50:])
    assert dataset.note == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has 1 columns, the first ''; expected a label and 784 pixels"),
        (_rows(0, 9, label=False), "has 784 columns, the first "),
        ("a,b\n1,2\n", "has 2 columns, the first 'a'; expected a label and 784 pixels"),
        (NAMES, "holds no rows"),
        (NAMES + _rows(0, 9) + "1,2\n", "cannot be read as numbers: "),
        (NAMES + _rows(0, 9).replace(",0,", ",x,"), "cannot be read as numbers: "),
        (
            _rows(0, 18).replace(",255,", ",900,"),
            "x_train is int16; expected pixels 0..255; it holds 0..900",
        ),
        (_rows(0, 18) + "10" + _rows(0, 1)[1:], "holds labels 4..10; expected 0..9"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(InputError) as refusal:
        data.load(str(tmp_path / "mine.csv"))
    assert words in str(refusal.value)
    assert str(tmp_path / "mine.csv") in str(refusal.value)


def test_more_tables_than_can_be_told_apart_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(_rows(0, 9))
    with pytest.raises(InputError, match=r"holds a\.csv, b\.csv; expected one table with labels"):
        data.load(str(tmp_path))
