"""Pages that hold more than a digit, and pages that hold no single digit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from export.digits.data import sources as data
from export.publication.serving_path import ServedModel
from tests.bench.encoded_pages import SURE, UNSURE, blanks
from tests.conftest import Version
from tests.export.digits.graph import pages

DIGITS = 20
MOST_LOST = 0.15  # of the digits that are read right on a bare page; most kinds lose none


@pytest.fixture(scope="module")
def model(published: Version) -> Iterator[ServedModel]:
    with ServedModel(published.path) as model:
        yield model


@pytest.fixture(scope="module")
def test_images() -> data.Split:
    whole = data.load("digits").test
    chosen = np.random.default_rng(1).permutation(len(whole))[: 4 * DIGITS]
    return data.Split(whole.images[chosen], whole.labels[chosen])


@pytest.fixture(scope="module")
def plain(model: ServedModel, test_images: data.Split) -> NDArray[np.bool_]:
    """Which of the first digits are read right on a bare page."""
    images, labels = test_images.images[:DIGITS], test_images.labels[:DIGITS]
    probabilities = _asked(model, pages.draw(images, pages.KNOWN["plain"]))
    right: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return right


def _asked(model: ServedModel, files: Iterator[bytes]) -> np.ndarray:
    return model.run("encoded", np.array(list(files), dtype=object))["probabilities"]


@pytest.mark.parametrize("name", [*pages.KNOWN, *pages.OTHER])
def test_a_digit_is_read_on_any_page(
    model: ServedModel, test_images: data.Split, plain: NDArray[np.bool_], name: str
) -> None:
    images, labels = test_images.images[:DIGITS], test_images.labels[:DIGITS]
    probabilities = _asked(model, pages.draw(images, (pages.KNOWN | pages.OTHER)[name]))
    right = probabilities.argmax(axis=1) == labels
    assert (plain & ~right).sum() <= MOST_LOST * DIGITS
    assert (plain & ~right & (probabilities.max(axis=1) >= SURE)).sum() <= 1


@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_digits_are_not_answered_surely(
    model: ServedModel, test_images: data.Split, count: int
) -> None:
    files = pages.several(test_images.images[: DIGITS * count], count)
    assert _asked(model, files).max() <= UNSURE


@pytest.mark.parametrize("name", pages.NOT_ONE_DIGIT)
def test_what_is_no_digit_is_not_answered_surely(model: ServedModel, name: str) -> None:
    files = pages.without_digit(pages.NOT_ONE_DIGIT[name], DIGITS)
    assert _asked(model, files).max() <= UNSURE


@pytest.mark.parametrize("name", blanks())
def test_a_blank_page_is_any_digit(model: ServedModel, name: str) -> None:
    np.testing.assert_allclose(_asked(model, iter([blanks()[name]])), 0.1)
