"""Every signature is measured on what callers send it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from export.digits.checks import pictures
from export.digits.checks.gate import check
from export.digits.data import sources as data
from export.digits.graph import signatures
from export.digits.training import network, recipes
from export.errors import Refused
from export.publication.serving_path import ServedModel
from tests.conftest import Version
from tests.export.digits.checks.test_gate import findings


@pytest.fixture(scope="module")
def served(published: Version) -> Iterator[ServedModel]:
    with ServedModel(published.path) as model:
        yield model


def test_a_good_model_reads_pictures_as_it_reads_arrays(
    served: ServedModel, published: Version
) -> None:
    figures = pictures.measure(served, data.load("digits").test)
    assert figures.keys() == {"encoded", "classify"}
    for one in figures.values():
        assert one.images == 500
        assert one.lost - one.won <= 5
        assert one.accuracy > 0.97
    assert published.report["pictures"].keys() == figures.keys()
    check(findings(pictures=figures), 0.95, 0.0)


def test_a_model_of_black_on_white_is_refused_by_signature(
    digits: data.Dataset, tmp_path: Path
) -> None:
    """It reads its own test images, and nothing that callers send."""
    train, test = (data.Split(255 - p.images, p.labels) for p in (digits.train, digits.test))
    keras.utils.set_random_seed(1)
    model = network.build()
    recipe = recipes.recipe("reference", len(train), epochs=5)
    recipes.train(model, replace(digits, train=train, validation=test), recipe, lambda _: None)
    signatures.save(model, tmp_path)
    with ServedModel(tmp_path) as served:
        figures = pictures.measure(served, test)
    with pytest.raises(Refused, match=r"signature encoded reads 0\.\d+ of 400 test digits drawn"):
        check(findings(pictures=figures), 0.0, 1.0)
