"""Digits redrawn as pictures show them, against the same digits as MNIST has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from export.digits.data import sources as data
from export.publication.serving_path import ServedModel
from tests.conftest import Version
from tests.export.digits.graph.redrawn import REDRAWINGS, redraw

IMAGES = 200  # enough to notice what is broken; tests.bench.encoded measures on as many as asked


@dataclass(frozen=True)
class Plain:
    """The served model, test images of the data it was trained on, and which it reads right."""

    model: ServedModel
    test: data.Split
    right: NDArray[np.bool_]


@pytest.fixture(scope="module")
def plain(published: Version) -> Iterator[Plain]:
    whole = data.load("digits").test
    chosen = np.random.default_rng(0).permutation(len(whole))[:IMAGES]
    test = data.Split(whole.images[chosen], whole.labels[chosen])
    with ServedModel(published.path) as model:
        yield Plain(model, test, model.run("serving_default", test.images)["digits"] == test.labels)


@pytest.mark.parametrize("name", REDRAWINGS)
def test_a_redrawn_digit_is_read_as_well_as_the_plain_one(plain: Plain, name: str) -> None:
    how = REDRAWINGS[name]
    files = np.array(list(redraw(plain.test.images, how)), dtype=object)
    right = plain.model.run("encoded", files)["digits"] == plain.test.labels
    lost, won = int((plain.right & ~right).sum()), int((right & ~plain.right).sum())
    assert how.allows(lost, won, len(right)), (lost, won)


@pytest.mark.parametrize("name", REDRAWINGS)
def test_only_a_row_with_a_reason_may_lose_more_than_a_point(name: str) -> None:
    how = REDRAWINGS[name]
    assert how.margin <= 0.01 or how.reason


def test_the_same_seed_redraws_alike_and_another_does_not(digits: data.Dataset) -> None:
    images, how = digits.test.images[:3], REDRAWINGS["several of these together"]
    first = list(redraw(images, how, seed=1))
    assert list(redraw(images, how, seed=1)) == first
    assert list(redraw(images, how, seed=2)) != first
