"""Images in CSV, as Kaggle has them: a row is a label and all pixels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.digits.data.idx import opened
from export.digits.subject import PIXELS
from export.errors import InputError
from export.npz import MOST_BYTES


def read(path: Path) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Images [n, PIXELS] and labels [n]; the label is the column of that name, or the first.

    Raises:
        InputError: it cannot be read, or has other columns.
    """
    try:
        if (held := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path} has {held} bytes; expected at most {MOST_BYTES}")
        with opened(path) as file:
            first = file.readline(1 << 16).decode().strip().split(",")
            has_names = not first[0].strip().isdecimal()
            if not has_names:
                file.seek(0)
            if len(first) != 1 + PIXELS:
                raise InputError(
                    f"{path} has {len(first)} columns, the first {first[0][:20]!r}; expected a "
                    f"label and {PIXELS} pixels"
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty table, which is refused below
                rows = np.loadtxt(file, np.int16, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as numbers: {error}") from error
    if not len(rows):
        raise InputError(f"{path} holds no rows")
    label = first.index("label") if has_names and "label" in first else 0
    return np.delete(rows, label, axis=1), rows[:, label]


def has_labels(path: Path) -> bool:
    """Whether it has a column more than pixels; Kaggle's test.csv has not."""
    try:
        with opened(path) as file:
            return file.readline(1 << 16).count(b",") == PIXELS
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
