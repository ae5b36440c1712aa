from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from export.digits.data.sources import Dataset
from export.digits.training.distortion import Distortion, distort, fields

STILL = Distortion(rotation=0, scale=0, shear=0, shift=0, warp=0, fields=16)


def _bent(images: NDArray[np.uint8], by: Distortion, seed: int = 0) -> NDArray[np.uint8]:
    key = tf.constant([seed, 0])
    bent = distort(tf.constant(images[..., np.newaxis]), fields(key, by), key, by)
    return np.asarray(bent)[..., 0]


def _moved(by: Distortion) -> NDArray[np.float64]:
    """How far a dot in the middle moves: x and y of each of 500 images, in pixels."""
    image = np.zeros((500, 28, 28), np.uint8)
    image[:, 14, 14] = 255
    bent = _bent(image, by).astype(float)
    mass = bent.sum((1, 2))
    moved = np.stack([bent.sum(1) @ np.arange(28), bent.sum(2) @ np.arange(28)])
    return np.asarray(moved / mass - 14)


def test_without_distortion_nothing_moves(digits: Dataset) -> None:
    images = digits.test.images[:20]
    assert np.array_equal(_bent(images, STILL), images)


def test_a_shift_is_a_shift_by_at_most_its_limit() -> None:
    moved = _moved(replace(STILL, shift=3))
    assert 2.5 < np.abs(moved).max() <= 3.05
    assert np.abs(moved.mean(axis=1)).max() < 0.3


def test_a_warp_moves_by_its_root_mean_square_along_each_axis() -> None:
    # A smooth field moves a dot as a whole.
    moved = _moved(replace(STILL, warp=2.0, smoothness=8.0, fields=512))
    assert np.sqrt(np.mean(moved**2, axis=1)) == pytest.approx(2.0, rel=0.15)
    assert abs(np.corrcoef(*moved).min()) < 0.2


@pytest.mark.parametrize(
    "by",
    [
        replace(STILL, rotation=0.15),
        replace(STILL, scale=0.08),
        replace(STILL, shear=0.15),
        replace(STILL, shift=1.5),
        replace(STILL, warp=2.0),
    ],
)
def test_every_limit_bends_each_image_its_own_way(digits: Dataset, by: Distortion) -> None:
    images = np.repeat(digits.test.images[:1], 8, axis=0)
    assert len({image.tobytes() for image in _bent(images, by)}) == 8


def test_the_same_seed_bends_alike_and_another_does_not(digits: Dataset) -> None:
    images = digits.test.images[:20]
    assert np.array_equal(_bent(images, Distortion()), _bent(images, Distortion()))
    assert not np.array_equal(_bent(images, Distortion()), _bent(images, Distortion(), seed=1))


def test_fields_are_smooth_and_move_as_far_as_they_are_to_everywhere() -> None:
    by = Distortion(warp=0.9, smoothness=4.0, fields=512)
    field = fields(tf.constant([1, 2]), by).numpy()
    assert field.shape == (512, 2, 28, 28)
    assert field.std() == pytest.approx(0.9, rel=0.03)
    everywhere = np.sqrt((field**2).mean(axis=(0, 1)))  # the edges too
    assert everywhere.min() > 0.9 * 0.85
    assert everywhere.max() < 0.9 * 1.15
    # Of noise smoothed with sigma, neighbours at distance d correlate as exp(-d² / 4 sigma²).
    for distance in (1, 4, 8):
        alike = (field[..., distance:] * field[..., :-distance]).mean() / (field**2).mean()
        assert alike == pytest.approx(np.exp(-((distance / 8) ** 2)), abs=0.05)


def test_beyond_the_edge_all_is_black() -> None:
    white = np.full((50, 28, 28), 200, np.uint8)
    bent = _bent(white, replace(STILL, shift=6))
    assert bent[:, 7:21, 7:21].min() == bent.max() == 200
    assert bent.min() == 0


def test_a_slope_keeps_its_steepness() -> None:
    """Between two pixels lies what lies between them, so what is smooth stays smooth."""
    slope = np.repeat(np.arange(28, dtype=np.uint8)[np.newaxis] * 9, 28, axis=0)
    bent = _bent(np.repeat(slope[np.newaxis], 50, axis=0), replace(STILL, shift=2)).astype(int)
    steps = np.diff(bent[:, 4:24, 4:24], axis=2)
    assert 8 <= steps.min() <= steps.max() <= 10
