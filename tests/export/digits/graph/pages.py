"""Digits on pages that hold more than a digit, and pages that hold no single digit.

Lines of many kinds, boxes and frames, what lies at a picture's edge, specks; drawn at random within
each kind, with the pen of `redrawn`. Thresholds were chosen on training and validation images; of
`OTHER`, too, failures were looked at then, so neither is held out.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.export.digits.graph.redrawn import Redrawing, coverage

Draw = ImageDraw.ImageDraw
Random = np.random.Generator
Drawing = Callable[[Draw, int, Random], None]  # on a square page of so many pixels

SIDE = 400  # pixels, of a page
_FINE = 2  # samples per pixel, where lines are drawn
_FINE_SIZE = (SIDE * _FINE, SIDE * _FINE)
_PAPER, _INK = (245, 244, 240), (30, 40, 120)
_BLUE, _PALE, _RED, _BLACK = (90, 110, 170), (160, 180, 220), (200, 90, 90), (30, 30, 30)


_HOW = Redrawing(page=(SIDE, SIDE), digit=0.63, off_centre=0.15)


@dataclass(frozen=True, slots=True)
class Page:
    """What is on a page beneath the digit, and what covers both."""

    beneath: Drawing | None = None
    above: Drawing | None = None
    shade: Callable[[int, Random], NDArray[np.float64]] | None = None  # factor of the light
    how: Redrawing = _HOW
    paper: tuple[int, int, int] = _PAPER
    ink: tuple[int, int, int] = _INK


def draw(images: NDArray[np.uint8], page: Page, seed: int = 0) -> Iterator[bytes]:
    """A PNG for each of uint8 [n, 28, 28]; the same for the same seed."""
    for number, image in enumerate(images):
        random = np.random.default_rng((seed, number))
        ink = coverage(image, page.how, random)[:, :, np.newaxis]
        pixels = _layer(page.beneath, page.paper, random) * (1 - ink) + np.array(page.ink) * ink
        if page.above:
            fine = Image.fromarray(pixels.astype(np.uint8)).resize(
                _FINE_SIZE, Image.Resampling.BILINEAR
            )
            pixels = np.asarray(_drawn(fine, page.above, random))
        if page.shade:
            pixels = pixels * page.shade(SIDE, random)[:, :, np.newaxis]
        if page.how.noise:
            pixels = pixels + random.normal(0, page.how.noise, pixels.shape)
        yield png(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A file of uint8 [h, w] or [h, w, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _layer(what: Drawing | None, paper: tuple[int, int, int], random: Random) -> NDArray[np.uint8]:
    if not what:
        return np.full((SIDE, SIDE, 3), paper, np.uint8)
    return np.asarray(_drawn(Image.new("RGB", _FINE_SIZE, paper), what, random))


def _drawn(fine: Image.Image, what: Drawing, random: Random) -> Image.Image:
    what(ImageDraw.Draw(fine), SIDE * _FINE, random)
    return fine.resize((SIDE, SIDE), Image.Resampling.BOX)


def _rules(
    step: float,
    width: float,
    colour: tuple[int, int, int],
    *,
    squared: bool = False,
    tilt: float = 0.0,
    converge: float = 0.0,
    double: float = 0.0,
) -> Drawing:
    """Lines from edge to edge; lengths are shares of the page, tilt and converge rise per run."""

    def what(pen: Draw, side: int, random: Random) -> None:
        slope = random.uniform(-tilt, tilt)
        start = random.uniform(0, step)
        for at in np.arange(start - 0.3, 1.3, step):
            lean = slope + converge * (at - 0.5)
            for offset in (0.0, double) if double else (0.0,):
                a, b = (at + offset - lean / 2) * side, (at + offset + lean / 2) * side
                pen.line((0, a, side, b), fill=colour, width=round(width * side))
                if squared:
                    pen.line((b, 0, a, side), fill=colour, width=round(width * side))

    return what


def _both(*drawings: Drawing) -> Drawing:
    def what(pen: Draw, side: int, random: Random) -> None:
        for drawing in drawings:
            drawing(pen, side, random)

    return what


def _margin(pen: Draw, side: int, random: Random) -> None:
    x = random.uniform(0.08, 0.16) * side
    pen.line((x, 0, x + random.uniform(-0.01, 0.01) * side, side), fill=_RED, width=side // 130)


def _dots(pen: Draw, side: int, random: Random) -> None:
    start, step, size = random.uniform(0, 0.1, 2), random.uniform(0.07, 0.12), 0.005
    for x in np.arange(start[0], 1, step):
        for y in np.arange(start[1], 1, step):
            box = [(value + d * size) * side for d in (-1, 1) for value in (x, y)]
            pen.ellipse(box, fill=(130, 140, 160))


def _box(
    size: tuple[float, float],
    width: float,
    *,
    wobble: float = 0.0,
    sides: str = "tlbr",
    colour: tuple[int, int, int] = _BLACK,
) -> Drawing:
    """A box around the middle whose half side lies within `size`; some of its sides."""

    def what(pen: Draw, side: int, random: Random) -> None:
        half = random.uniform(*size)
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        at = [0.5 + half * np.array(c) + random.normal(0, wobble, 2) for c in corners]
        for name, a, b in (("t", 0, 1), ("r", 1, 2), ("b", 2, 3), ("l", 3, 0)):
            if name in sides:
                steps = np.linspace(0, 1, 30)[:, np.newaxis]
                waves = np.cumsum(random.normal(0, wobble / 8, (30, 2)), axis=0)
                points = at[a] * (1 - steps) + at[b] * steps + waves * steps * (1 - steps) * 4
                line = [tuple(point) for point in points * side]
                pen.line(line, fill=colour, width=round(width * side), joint="curve")

    return what


def _underline(count: int, width: float, wave: float = 0.0) -> Drawing:
    def what(pen: Draw, side: int, random: Random) -> None:
        y, tilt = random.uniform(0.86, 0.9), random.uniform(-0.015, 0.015)
        left, right = random.uniform(0.12, 0.3), random.uniform(0.7, 0.88)
        for line in range(count):
            x = np.linspace(left, right, 60)
            waves = wave * np.sin(x * random.uniform(40, 60))
            ys = y + 0.035 * line + tilt * (2 * x - 1) + waves
            points = [(a * side, b * side) for a, b in zip(x, ys, strict=True)]
            pen.line(points, fill=(40, 60, 130), width=round(width * side))

    return what


def _frame(widths: tuple[float, float], sides: str = "tlbr", shade: int = 12) -> Drawing:
    """What a scanner leaves around a page: bands along the edges, of differing widths."""

    def what(pen: Draw, side: int, random: Random) -> None:
        for name in sides:
            a, b = random.uniform(*widths, 2) * side
            band = {
                "t": [(0, 0), (side, 0), (side, a), (0, b)],
                "b": [(0, side), (side, side), (side, side - a), (0, side - b)],
                "l": [(0, 0), (a, 0), (b, side), (0, side)],
                "r": [(side, 0), (side - a, 0), (side - b, side), (side, side)],
            }[name]
            pen.polygon(band, fill=(shade, shade, shade))

    return what


def _table(pen: Draw, side: int, random: Random) -> None:
    """A wooden table beyond one corner of the page."""
    x, y = random.uniform(0.25, 0.5, 2) * side
    corner = [(0, 0), (x, 0), (0, y)]
    if random.random() < 0.5:
        corner = [(side - a, b) for a, b in corner]
    pen.polygon(corner, fill=(120, 85, 50))


def _thumb(pen: Draw, side: int, random: Random) -> None:
    x, long, wide = random.uniform(0.15, 0.85), random.uniform(0.1, 0.16), random.uniform(0.07, 0.1)
    box = [(x - wide) * side, (1 - long) * side, (x + wide) * side, (1 + 2 * long) * side]
    pen.ellipse(box, fill=(205, 150, 125), outline=(150, 95, 80), width=side // 150)


def _specks(pen: Draw, side: int, random: Random) -> None:
    for x, y in random.uniform(0, 1, (25, 2)):
        r = random.uniform(0.002, 0.008)
        box = [(x - r) * side, (y - r) * side, (x + r) * side, (y + r) * side]
        pen.ellipse(box, fill=(60, 60, 60))


def _comb(pen: Draw, side: int, random: Random) -> None:
    """A field of a form with ticks between the places, the digit in the middle one."""
    base, high = random.uniform(0.86, 0.9) * side, random.uniform(0.1, 0.2) * side
    pen.line((0, base, side, base), fill=_BLACK, width=side // 110)
    for x in (0.1, 0.9):
        pen.line((x * side, base, x * side, base - high), fill=_BLACK, width=side // 110)


def _cells(pen: Draw, side: int, random: Random) -> None:
    """Cells of a printed table: lines from edge to edge around the digit."""
    for at in (random.uniform(0.04, 0.12), random.uniform(0.88, 0.96)):
        pen.line((0, at * side, side, at * side), fill=_BLACK, width=side // 100)
        pen.line((at * side, 0, at * side, side), fill=_BLACK, width=side // 100)


def _label(pen: Draw, side: int, random: Random) -> None:
    """Small print above a box, as on forms."""
    _box((0.4, 0.43), 0.008)(pen, side, random)
    pen.text((0.1 * side, 0.015 * side), "Number of rooms", fill=_BLACK, font_size=side * 0.04)


def _dashes(pen: Draw, side: int, random: Random) -> None:
    """Rules of short dashes, as in a school's copybook."""
    dash, step = random.uniform(0.01, 0.03) * side, random.uniform(0.16, 0.24)
    for y in np.arange(random.uniform(0, step), 1, step) * side:
        for x in np.arange(0, side, 2 * dash):
            pen.line((x, y, x + dash, y), fill=_BLUE, width=side // 150)


def _rounded(pen: Draw, side: int, random: Random) -> None:
    a = random.uniform(0.06, 0.12) * side
    radius = random.uniform(0.05, 0.15) * side
    pen.rounded_rectangle((a, a, side - a, side - a), radius, outline=_BLACK, width=side // 90)


def _brackets(pen: Draw, side: int, random: Random) -> None:
    """The corners of a field, as on forms that a machine reads."""
    a, long = random.uniform(0.06, 0.1) * side, random.uniform(0.06, 0.12) * side
    for x, across in ((a, 1), (side - a, -1)):
        for y, down in ((a, 1), (side - a, -1)):
            corner = [(x + across * long, y), (x, y), (x, y + down * long)]
            pen.line(corner, fill=_BLACK, width=side // 90)


def _dark_table(pen: Draw, side: int, random: Random) -> None:
    """A dark table all around a sheet that lies askew."""
    corners = [(0, 0), (side, 0), (side, side), (0, side)]
    inner = [
        tuple(abs(at - random.uniform(0.04, 0.12) * side) for at in corner) for corner in corners
    ]
    for edge in range(4):
        after = (edge + 1) % 4
        band = [corners[edge], corners[after], inner[after], inner[edge]]
        pen.polygon(band, fill=(70, 45, 30))


def _holes(pen: Draw, side: int, random: Random) -> None:
    for y in (0.25, 0.75):
        x, r = random.uniform(0.04, 0.07), 0.03
        box = [(x - r) * side, (y - r) * side, (x + r) * side, (y + r) * side]
        pen.ellipse(box, fill=(40, 35, 30))


def _crease(pen: Draw, side: int, random: Random) -> None:
    a, b = random.uniform(0.1, 0.9, 2) * side
    pen.line((a, 0, b, side), fill=(205, 203, 198), width=side // 80)


def _hard_shadow(side: int, random: Random) -> NDArray[np.float64]:
    return _shadow(side, random, 0.004)


def _soft_shadow(side: int, random: Random) -> NDArray[np.float64]:
    return _shadow(side, random, 0.12)


def _shadow(side: int, random: Random, blur: float) -> NDArray[np.float64]:
    """A shadow over one corner, as of the hand that holds the camera."""
    angle, reach = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.45)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    distance = x * np.cos(angle) + y * np.sin(angle) - reach
    light: NDArray[np.float64] = 1 - 0.45 / (1 + np.exp(-distance / blur))
    return light


_WIDE = replace(_HOW, pen=0.6)

KNOWN = {
    "plain": Page(),
    "ruled, pale": Page(_rules(0.22, 0.005, _PALE)),
    "ruled, dark": Page(_rules(0.2, 0.006, _BLUE)),
    "ruled, as dark as the ink": Page(_rules(0.25, 0.008, (40, 50, 110))),
    "ruled, tilted": Page(_rules(0.22, 0.006, _BLUE, tilt=0.06)),
    "squared": Page(_rules(0.12, 0.005, _PALE, squared=True)),
    "squared, dark": Page(_rules(0.15, 0.006, _BLUE, squared=True)),
    "underlined": Page(_underline(1, 0.012)),
    "underlined twice": Page(_underline(2, 0.008)),
    "form box": Page(_box((0.38, 0.42), 0.01)),
    "checkbox": Page(_box((0.3, 0.34), 0.012), how=replace(_HOW, digit=0.5)),
    "box by hand": Page(_box((0.38, 0.42), 0.012, wobble=0.012)),
    "scan border": Page(above=_frame((0.01, 0.03))),
    "wide scan border": Page(above=_frame((0.04, 0.09))),
    "border on two sides": Page(above=_frame((0.02, 0.08), "tl", 60)),
    "table beyond a corner": Page(above=_table),
    "specks": Page(_specks),
    "thin pen on rules": Page(_rules(0.2, 0.005, _BLUE), how=_WIDE),
    "thin pen in a box": Page(_box((0.38, 0.42), 0.01), how=_WIDE),
    "chalk on a ruled board": Page(
        _rules(0.2, 0.006, (120, 130, 125)), paper=(38, 42, 40), ink=(225, 225, 220)
    ),
    "noise and rules": Page(_rules(0.2, 0.006, _BLUE), how=replace(_HOW, noise=8.0)),
}
OTHER = {
    "dotted": Page(_dots),
    "ruled with a margin": Page(_both(_rules(0.18, 0.005, _PALE), _margin)),
    "graph paper": Page(
        _both(
            _rules(0.05, 0.003, (195, 215, 205), squared=True),
            _rules(0.25, 0.006, (120, 170, 145), squared=True),
        )
    ),
    "double rules": Page(_rules(0.28, 0.005, _BLUE, double=0.05)),
    "red rules": Page(_rules(0.2, 0.006, _RED)),
    "rules in perspective": Page(_rules(0.2, 0.006, _BLUE, tilt=0.04, converge=0.12)),
    "thick box": Page(_box((0.4, 0.44), 0.03)),
    "open box": Page(_box((0.38, 0.42), 0.012, sides="lbr")),
    "corner of a box": Page(_box((0.38, 0.42), 0.012, sides="tl")),
    "comb field": Page(_comb),
    "cells of a table": Page(_cells),
    "box with small print": Page(_label),
    "wavy underline": Page(_underline(1, 0.012, 0.008)),
    "border on one side": Page(above=_frame((0.05, 0.15), "r", 30)),
    "dashed rules": Page(_dashes),
    "rounded box": Page(_rounded),
    "brackets at the corners": Page(_brackets),
    "pencil on pale rules": Page(_rules(0.2, 0.006, _PALE), ink=(150, 150, 155)),
    "sheet on a dark table": Page(above=_dark_table),
    "thumb": Page(above=_thumb),
    "punched holes": Page(above=_holes),
    "crease": Page(_crease),
    "hard shadow": Page(shade=_hard_shadow),
    "soft shadow": Page(shade=_soft_shadow),
    "rules under a shadow": Page(_rules(0.2, 0.006, _BLUE), shade=_soft_shadow),
    "small on a ruled page": Page(
        _rules(0.22, 0.005, _PALE), how=replace(_HOW, digit=0.3, off_centre=0.4)
    ),
    "thick pen on squares": Page(
        _rules(0.12, 0.006, _BLUE, squared=True), how=replace(_HOW, pen=1.4)
    ),
}


def several(
    images: NDArray[np.uint8], count: int, seed: int = 0, *, stacked: bool = False
) -> Iterator[bytes]:
    """Pages with so many digits beside each other, or one beneath another, of uint8 [n, 28, 28]."""
    wide = 0.9 / count
    for first in range(0, len(images) - count + 1, count):
        random = np.random.default_rng((seed, first))
        page = np.zeros((SIDE, SIDE))
        for place, image in enumerate(images[first : first + count]):
            size = round(min(wide * 1.25, 0.6) * SIDE)
            ink = coverage(image, Redrawing(page=(size, size), digit=1.0), random)
            left = int((0.05 + wide * (place + 0.5)) * SIDE) - size // 2
            top = (SIDE - size) // 2 + int(random.uniform(-0.03, 0.03) * SIDE)
            if stacked:
                top, left = left, top
            (a, b), (c, d) = ((max(at, 0), min(at + size, SIDE)) for at in (top, left))
            page[a:b, c:d] = np.maximum(page[a:b, c:d], ink[a - top : b - top, c - left : d - left])
        pixels = np.array(_PAPER) * (1 - page[:, :, np.newaxis]) + np.array(_INK) * page[:, :, None]
        yield png(pixels.astype(np.uint8))


def _face(pen: Draw, side: int, random: Random) -> None:
    r, width = random.uniform(0.28, 0.4) * side, round(random.uniform(0.015, 0.04) * side)
    m = side / 2
    pen.ellipse((m - r, m - r, m + r, m + r), outline=_INK, width=width)
    for x in (-0.4, 0.4):
        e = r * random.uniform(0.08, 0.13)
        pen.ellipse((m + x * r - e, m - 0.3 * r - e, m + x * r + e, m - 0.3 * r + e), fill=_INK)
    pen.arc((m - 0.5 * r, m - 0.4 * r, m + 0.5 * r, m + 0.6 * r), 20, 160, fill=_INK, width=width)


def _word(text: str) -> Drawing:
    def what(pen: Draw, side: int, random: Random) -> None:
        size = random.uniform(0.9, 1.3) * side / len(text)
        at = (random.uniform(0.06, 0.12) * side, random.uniform(0.2, 0.5) * side)
        pen.text(at, text, fill=_INK, font_size=size)

    return what


NOT_ONE_DIGIT: dict[str, list[Drawing]] = {
    "a word": [_word(word) for word in ("hello", "Total", "no", "seven", "Name", "yes", "Anna")],
    "a face": [_face],
    "an empty box": [
        _box((0.2, 0.44), 0.01),
        _box((0.3, 0.4), 0.025),
        _box((0.38, 0.42), 0.012, wobble=0.012),
    ],
    "an empty table": [_cells, _comb],
    "ruled lines alone": [_rules(0.22, 0.006, _BLUE), _rules(0.12, 0.005, _PALE, squared=True)],
    "an underline alone": [_underline(1, 0.012), _underline(2, 0.008)],
    "a border alone": [_frame((0.01, 0.03)), _frame((0.04, 0.09))],
    "a thumb alone": [_thumb, _table],
}


def without_digit(drawings: list[Drawing], count: int, seed: int = 0) -> Iterator[bytes]:
    """Pages that hold no single digit, the kinds by turns."""
    for number in range(count):
        random = np.random.default_rng((seed, number))
        yield png(_layer(drawings[number % len(drawings)], _PAPER, random))
