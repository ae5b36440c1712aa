"""The sample of MNIST that ships here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.digits.data import make_sample, sample
from export.digits.data import sources as data
from export.publication.serving_path import ServedModel
from tests.conftest import Version

MOST_BYTES = 1_500_000
NEEDS_MNIST = "MNIST is not at hand; MNIST_NPZ names it"


def test_it_is_small_and_says_whose_it_is() -> None:
    assert sample.PATH.stat().st_size <= MOST_BYTES
    licence = sample.PATH.with_suffix(".LICENSE.md").read_text()
    for words in ("LeCun", "Cortes", "Burges", "creativecommons.org/licenses/by-sa/3.0/"):
        assert words in licence


def test_every_digit_is_in_every_part() -> None:
    dataset = data.load("digits")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [11000, 1000, 2000]
    assert dataset.note == sample.NOTE
    for part in (dataset.train, dataset.validation, dataset.test):
        assert np.bincount(part.labels).min() > 0.07 * len(part)


def test_the_command_makes_what_ships(
    tmp_path: Path, mnist: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mnist is None:
        pytest.skip(NEEDS_MNIST)
    shipped = data.load("digits")
    made = tmp_path / "made.npz"
    assert make_sample.main([str(mnist), f"--to={made}"]) == 0
    monkeypatch.setattr(sample, "PATH", made)
    assert data.load("digits").sha256 == shipped.sha256
    with np.load(mnist) as genuine:
        away = shipped.test.images.astype(int) - genuine["x_test"][::5]
        assert np.abs(away).max() <= 8  # half of a shade of sixteen
        assert np.array_equal(shipped.test.labels, genuine["y_test"][::5])


@pytest.mark.parametrize("name", ["pyproject.toml", "nowhere.npz", str(sample.PATH)])
def test_the_command_refuses_what_is_not_mnist(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_sample.main([name, f"--to={tmp_path / 'made.npz'}"]) == 2
    assert name in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_it_reads_the_genuine_test_images(
    published: Version, mnist: Path | None
) -> None:
    assert published.report["data"]["note"] == sample.NOTE
    if mnist is None:
        pytest.skip(NEEDS_MNIST)
    test = data.load(str(mnist)).test
    with ServedModel(published.path) as model:
        answers = model.run("serving_default", test.images)["digits"]
    # 98.9 % with as many epochs as the recipe has; these are a third of them.
    assert np.mean(answers == test.labels) >= 0.983
