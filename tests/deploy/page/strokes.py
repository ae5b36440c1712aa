"""From the picture of a digit to strokes that a pen would draw: thinned to lines, then traced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]
Stroke = list[tuple[float, float]]

_FINE = 3  # samples per pixel of the picture
_INK = 110  # the grey, of 255, from which a sample is ink
_SMOOTH = 2  # samples to each side over which a line is averaged: no staircase
_EVERY = 3  # of these samples is a point of a stroke
_SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def strokes_of(image: NDArray[np.uint8]) -> list[Stroke]:
    """Lines through the digit of uint8 [28, 28], as points (x, y) in 0..1 of the picture."""
    side = 28 * _FINE
    fine = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    lines = _traced(_thinned(np.asarray(fine) >= _INK))
    return [[(x / side, y / side) for y, x in _smoothed(line) + 0.5] for line in lines]


def _thinned(ink: Bits) -> Bits:
    """Zhang and Suen's thinning: the outline is taken away, side by side, as long as lines stay."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.copy()
        for corner in (0, 1):
            around = _neighbours(ink)
            north, east, south, west = around[0], around[2], around[4], around[6]
            count = around.sum(axis=0)
            crossings = (~around & np.roll(around, -1, axis=0)).sum(axis=0)
            two = (
                (~(north & east & south) & ~(east & south & west))
                if corner == 0
                else (~(north & east & west) & ~(north & south & west))
            )
            ink &= ~((count >= 2) & (count <= 6) & (crossings == 1) & two)
        if (ink == before).all():
            return ink[1:-1, 1:-1]


def _neighbours(ink: Bits) -> Bits:
    """The eight neighbours of each sample, from the north clockwise: bool [8, h, w]."""
    ways = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    return np.stack([np.roll(ink, (-down, -across), (0, 1)) for down, across in ways])


def _traced(line: Bits) -> list[Floats]:
    """Each line from end to end, as rows and columns; where lines cross, another begins."""
    every = {(int(y), int(x)) for y, x in np.argwhere(line)}
    left, lines = set(every), []
    while left:
        path = [min(left, key=lambda point: (len(_near(point, left)), point))]  # an end, if any
        left.remove(path[0])
        while ways := _near(path[-1], left):
            path.append(ways[0])
            left.remove(ways[0])
        # From and to what is drawn already, so that no gap is left.
        drawn = every - left - set(path[1:-1])
        before, after = _near(path[0], drawn - {path[-1]}), _near(path[-1], drawn)
        lines.append(np.array([*before[:1], *path, *after[:1]], float))
    return lines


def _near(point: tuple[int, int], points: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which of the points touch this one; those on its sides first."""
    y, x = point
    around = [(y + down, x + across) for down, across in (*_SIDES, *_CORNERS)]
    return [other for other in around if other in points]


def _smoothed(line: Floats) -> Floats:
    """One point in `_EVERY` and the last, each the mean of those around it."""
    last = len(line) - 1
    points = []
    for i in sorted({*range(0, last, _EVERY), last}):
        reach = min(_SMOOTH, i, last - i)  # the ends stay where they are
        points.append(line[i - reach : i + reach + 1].mean(axis=0))
    return np.array(points)
