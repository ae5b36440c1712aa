"""Filters of pictures: those of scipy.ndimage that `redrawn.py` needs, on numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def distances(inside: NDArray[np.bool_]) -> Floats:
    """How far each pixel of a shape [height, width] is from the nearest one outside; 0 outside.

    The least over a column's pixels, then over a row's: the squares of both add up.
    """
    squared = np.where(inside, np.inf, 0.0)
    for _ in range(2):
        places = np.arange(squared.shape[1])
        apart = (places[:, np.newaxis] - places) ** 2.0
        squared = (squared[:, np.newaxis, :] + apart).min(axis=2).T
    return np.sqrt(squared)


def most_around(values: Floats, side: int) -> Floats:
    """The greatest value in the square of that odd side around each pixel [height, width]."""
    for _ in range(2):
        padded = np.pad(values, ((0, 0), (side // 2, side // 2)), mode="symmetric")
        values = sliding_window_view(padded, side, axis=1).max(axis=-1).T
    return values


def blurred(values: Floats, sigma: float) -> Floats:
    """A Gaussian blur of [height, width, …], as far as four sigmas; edges are mirrored."""
    reach = int(4 * sigma + 0.5)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    bell /= bell.sum()
    for _ in range(2):
        padded = np.pad(values, ((reach, reach), *[(0, 0)] * (values.ndim - 1)), mode="symmetric")
        windows = sliding_window_view(padded, len(bell), axis=0)
        values = np.swapaxes(windows @ bell, 0, 1)
    return values
