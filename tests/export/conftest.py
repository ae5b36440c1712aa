from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.digits.data import sources as data


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    """The embedded digits."""
    return data.load("digits")


@pytest.fixture(scope="session")
def small_npz(digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file of few real digits, for runs whose accuracy does not matter."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=digits.train.images[:300],
        y_train=digits.train.labels[:300],
        x_test=digits.test.images[:200],
        y_test=digits.test.labels[:200],
    )
    return path
