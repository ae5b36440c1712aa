from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from export.digits.data.sources import Dataset
from export.digits.training.distortion import Distortion, distort

STILL = Distortion(rotation=0, scale=0, shear=0, shift=0, warp=0)


def _bent(images: NDArray[np.uint8], by: Distortion, seed: int = 0) -> NDArray[np.uint8]:
    pixels = tf.constant(images[..., np.newaxis])
    bent: NDArray[np.uint8] = distort(pixels, tf.constant([seed, 0]), by).numpy()[..., 0]
    return bent


def test_without_distortion_nothing_moves(digits: Dataset) -> None:
    images = digits.test.images[:20]
    for mesh in (1, 2, 4):
        assert np.abs(_bent(images, replace(STILL, mesh=mesh)).astype(int) - images).max() <= 1


@pytest.mark.parametrize("mesh", [1, 2])
def test_a_shift_is_a_shift_by_at_most_its_limit(mesh: int) -> None:
    image = np.zeros((200, 28, 28), np.uint8)
    image[:, 14, 14] = 255
    bent = _bent(image, replace(STILL, shift=3, mesh=mesh))
    grid = np.arange(28)
    mass = bent.sum((1, 2))
    moved = np.stack([bent.sum(2) @ grid / mass, bent.sum(1) @ grid / mass]) - 14
    assert 2.5 < np.abs(moved).max() <= 3.05
    assert np.abs(moved.mean(axis=1)).max() < 0.5


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


def test_cells_join_without_a_seam() -> None:
    """Neighbouring cells agree on their common edge, so a smooth picture stays smooth."""
    x, y = np.meshgrid(np.linspace(0, 1, 28), np.linspace(0, 1, 28))
    smooth = np.repeat(((x + y) * 120)[np.newaxis], 50, axis=0).astype(np.uint8)
    bent = _bent(smooth, Distortion(shift=0, warp=2.0)).astype(int)[:, 4:24, 4:24]
    steps = max(np.abs(np.diff(bent, axis=1)).max(), np.abs(np.diff(bent, axis=2)).max())
    assert steps < 20
