"""Digits redrawn as a picture would show them: a pen's strokes on a page, and what a camera adds.

An image's grey edge becomes a contour, the contour a crisp stroke of the page's own size; then come
the pen's width, the page's shape and place, the paper, the light, the lens, the sensor, the file.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.export.digits.graph.filters import blurred, distances, most_around

Floats = NDArray[np.float64]
Colour = tuple[int, int, int]

_FINE = 4  # samples per pixel of the digit, where its contour is looked for
_CONTOUR = 100  # the grey, of 255, at which a stroke ends
_BLACK, _PENCIL, _CHALK = (25, 25, 30), (165, 165, 165), (225, 225, 220)
_WHITE, _CREAM, _SLATE = (255, 255, 255), (236, 234, 228), (38, 42, 40)


@dataclass(frozen=True, slots=True)
class Redrawing:
    """What happens to a digit on its way into a file."""

    page: tuple[int, int] = (150, 150)  # pixels, height and width
    digit: float = 0.75  # the digit's 28 pixels, of the page's shorter side
    off_centre: float = 0.0  # how far it wanders, of the room there is
    pen: float = 1.0  # the stroke's width, of what it was
    ink: Colour = _BLACK
    paper: Colour = _CREAM
    light: tuple[float, float] = (0.0, 0.0)  # darkening from one edge to the other, down and across
    vignette: float = 0.0  # darkening of the corners
    blur: float = 0.0  # sigma, of the page's shorter side
    noise: float = 0.0  # sigma, in 255ths
    jpeg: int | None = None  # quality; None is PNG
    transparent: bool = False  # a PNG of ink alone
    margin: float = 0.01  # of accuracy that it may cost
    reason: str = ""  # why it may cost more than others

    def allows(self, lost: int, won: int, images: int) -> bool:
        """Whether so many of the images may be read wrong now, and right now, when redrawn.

        The same images on both sides: only those that changed sides are subject to chance.
        """
        return bool(lost - won <= self.margin * images + (lost + won) ** 0.5)


REDRAWINGS = {
    "60 px": Redrawing(page=(60, 60)),
    "150 px": Redrawing(),
    "300 px": Redrawing(page=(300, 300)),
    "600 px": Redrawing(page=(600, 600)),
    "off centre": Redrawing(digit=0.5, off_centre=1.0),
    "small on a large page": Redrawing(page=(400, 400), digit=0.15, off_centre=0.8),
    "wide page": Redrawing(page=(150, 450), off_centre=0.7),
    "tall page": Redrawing(page=(450, 150), off_centre=0.7),
    "light fades from top or bottom": Redrawing(light=(0.5, 0.0)),
    "light fades from a corner": Redrawing(light=(0.35, 0.35)),
    "dark corners": Redrawing(vignette=0.4),
    "noise": Redrawing(noise=10.0),
    "JPEG 40": Redrawing(jpeg=40),
    "JPEG 15": Redrawing(jpeg=15),
    "JPEG 15 at 60 px": Redrawing(page=(60, 60), jpeg=15),
    "chalk on slate": Redrawing(ink=_CHALK, paper=_SLATE),
    "red on yellow": Redrawing(ink=(200, 30, 40), paper=(250, 235, 150)),
    "blue on white": Redrawing(ink=(40, 70, 190), paper=_WHITE),
    "transparent": Redrawing(transparent=True),
    "stroke of 0.3 times the width": Redrawing(
        pen=0.3, margin=0.04, reason="0.7 pixels on average, finer than MNIST's own grid"
    ),
    "stroke of 0.5 times the width": Redrawing(pen=0.5),
    "stroke of 1.5 times the width": Redrawing(pen=1.5),
    "stroke of 2 times the width": Redrawing(
        pen=2.0, margin=0.03, reason="a third of small loops and narrow gaps is left"
    ),
    "pencil": Redrawing(ink=_PENCIL, noise=3.0),
    "blur": Redrawing(blur=0.012),
    "several of these together": Redrawing(
        page=(320, 240),
        digit=0.6,
        off_centre=0.8,
        pen=0.7,
        ink=(60, 65, 120),
        light=(0.25, 0.25),
        vignette=0.15,
        blur=0.006,
        noise=6.0,
        jpeg=40,
    ),
}


def redraw(images: NDArray[np.uint8], how: Redrawing, seed: int = 0) -> Iterator[bytes]:
    """One file, PNG or JPEG, for each of uint8 [n, 28, 28]; the same for the same seed.

    An image without ink becomes a blank page.
    """
    for number, image in enumerate(images):
        random = np.random.default_rng((seed, number))
        yield _file(coverage(image, how, random), how, random)


def coverage(image: NDArray[np.uint8], how: Redrawing, random: np.random.Generator) -> Floats:
    """How much of each of the page's pixels the ink covers, float64 [height, width] in 0..1."""
    side = round(how.digit * min(how.page))
    depth = Image.fromarray(_depth(image.tobytes(), how.pen))
    depth_in_pixels = np.asarray(depth.resize((side, side), Image.Resampling.BICUBIC)) * side / 28
    room = np.array(how.page) - side
    top, left = np.round(room / 2 * (1 + how.off_centre * random.uniform(-1, 1, 2))).astype(int)
    page = np.zeros(how.page)
    page[top : top + side, left : left + side] = np.clip(depth_in_pixels + 0.5, 0, 1)
    return page


@functools.lru_cache(maxsize=512)  # most kinds draw the same digits with the same pen
def _depth(image: bytes, pen: float) -> NDArray[np.float32]:
    """How deep in the ink each sample lies, in pixels of the image; negative outside.

    A thin pen leaves the given share of the stroke at each place; a thick one draws over two thirds
    of a narrow loop's or bay's depth at most, so that the digit stays legible.
    """
    inside, outside = _distances(image)
    inked = inside > 0
    if not inked.any():
        return np.full(inked.shape, -28, np.float32)
    depth = blurred(inside - outside, 0.8)  # no staircase
    half_width = np.median(depth[(depth == most_around(depth, 3)) & inked])
    around = 2 * round(1.5 * half_width * _FINE) + 1
    if pen < 1:
        less: Floats = (1 - pen) * np.minimum(half_width, most_around(inside, around))
        return (depth - less).astype(np.float32)
    gap = most_around(outside, around)
    more: Floats = np.minimum((pen - 1) * half_width, gap * 2 / 3)
    return (depth + more).astype(np.float32)


@functools.lru_cache(maxsize=512)
def _distances(image: bytes) -> tuple[Floats, Floats]:
    """Of each sample to the contour, in pixels of the image: in the ink, and outside of it."""
    side = 28 * _FINE
    shades = np.frombuffer(image, np.uint8).reshape(28, 28).astype(np.float32)
    grey = Image.fromarray(shades).resize((side, side), Image.Resampling.BICUBIC)
    inked = np.asarray(grey) > _CONTOUR
    return distances(inked) / _FINE, distances(~inked) / _FINE


def _file(coverage: Floats, how: Redrawing, random: np.random.Generator) -> bytes:
    if how.transparent:
        ink = np.broadcast_to(np.array(how.ink), (*coverage.shape, 3))
        return _encoded(np.dstack([ink, coverage * 255]), how)
    colours = np.array([how.paper, how.ink], float)
    page = colours[0] + coverage[:, :, np.newaxis] * (colours[1] - colours[0])
    sigma = how.blur * min(how.page)
    seen = page * _light(how, *random.choice([-1, 1], 2).tolist())
    if how.blur:
        seen = blurred(seen, sigma)
    if how.noise:
        seen = seen + how.noise * random.standard_normal(seen.shape)
    return _encoded(seen, how)


@functools.lru_cache(maxsize=4)
def _light(how: Redrawing, *toward: int) -> Floats:
    """The light on each pixel, float64 [height, width, 1], 1 where it is brightest.

    It falls off downwards and to the right, or the other way where `toward` is -1.
    """
    down, across = (np.linspace(-1, 1, length) for length in how.page)
    y, x = np.meshgrid(down, across, indexing="ij")
    fall = how.light[0] * (1 + toward[0] * y) / 2 + how.light[1] * (1 + toward[1] * x) / 2
    # A lens lets the fourth power of the cosine through.
    tangent_squared = (x**2 + y**2) / 2 * ((1 - how.vignette) ** -0.5 - 1)
    light: Floats = (1 - fall) / (1 + tangent_squared) ** 2
    return light[:, :, np.newaxis]


def _encoded(pixels: Floats, how: Redrawing) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
    if how.jpeg is None:
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=how.jpeg)
    return buffer.getvalue()
