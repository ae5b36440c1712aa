"""Which of a page's ink is the digit, and whether it is one digit, inside the graph.

Told from the strokes, on a small square picture of the page: bands along its edges and long thin
lines are taken out; of what hangs together then, one component is the digit, with what lies close
to it. Boxes, dashes and what touches the picture's edge are taken for it only if there is nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from export.digits.graph.raster import components, greatest, greatest_around, path_sums, transposed

SIDE = 96  # cells, of the picture looked at

_DARK, _FAINT = 0.2, 0.1  # of the strongest ink: less is no stroke, no line
_BLOCK = 4  # cells, of a line, that are not told from each other
_THIN = 5  # cells; a line is thinner than this
_GAP = 2  # cells on each side
_LONG = 0.9  # of the side: how much of a line must show
_END = 0.25  # of the side: as much counts an end at the picture's edge
_SPECK = 0.01  # of the digit's ink: less is none of it
_OTHER = 0.2  # of the digit's ink: as much, apart from it, is another
_BESIDE = 0.4  # of the digit's ink: as much, close beside it, is another
_TALL = 0.5  # of the digit's height: so high, and above or below it, is no bar of it
_BESIDE_GAP, _BEYOND_GAP = 0.12, 0.35  # of the digit's longer side
_RIM, _CORNER = 0.7, 0.76  # of the way from the middle of a box to its sides
_CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
_ON_RIM = 0.93  # of a box's cells
_THIN_BOX = 0.085  # of a box's longer side: its line, twice
_SPANS = 0.9 * SIDE  # what touches an edge is cut off there, unless it is as long
_ROUNDS = 2  # of taking in what lies close
_BAR, _BAR_GAP = 1.4, 0.17  # of the digit: a flat stroke wider or farther is no part of it
_FLAT = 6.0  # width over height: more is a dash
_WIDE = 1.6  # width over height: more is no single digit


def of_digit(ink: tf.Tensor, noise: tf.Tensor, aspect: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The ink of a page, float32 [SIDE, SIDE], → where the digit's is, and is it one digit.

    The page is `aspect` times as wide as high. The place is float32 [SIDE, SIDE] of 0 and 1.
    """
    strongest = tf.reduce_max(ink)

    def look(share: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dark, faint = (ink > tf.maximum(least * strongest, noise) for least in (share, _FAINT))
        bands = _bands(dark)
        lines = _lines(faint, bands)
        dark &= ~(bands | lines)
        place, is_one, at_edge = tf.cond(
            tf.reduce_any(dark),
            lambda: _chosen(ink, dark, bands, tf.reduce_any(lines), aspect),
            lambda: (tf.zeros_like(ink), tf.constant(True), tf.constant(False)),
        )
        return 3.0 * share, place, is_one, at_edge

    # A digit that hangs together with the edge may do so by a shadow, which is fainter.
    _, place, is_one, _ = tf.while_loop(
        lambda share, _, __, at_edge: at_edge & (share < 1.0),
        look,
        (tf.constant(_DARK), tf.zeros_like(ink), tf.constant(True), tf.constant(True)),
    )
    return place, is_one


def _bands(dark: tf.Tensor) -> tf.Tensor:
    """What runs along an edge: a scanner's border, a frame."""
    across = transposed(dark)
    sides = tf.stack([dark, dark[::-1], across, across[::-1]])  # each with its edge at the top
    row = np.arange(SIDE, dtype=np.float32)[:, np.newaxis]
    depth = tf.reduce_min(tf.where(sides, float(SIDE), row), -2, keepdims=True)
    share = tf.reduce_mean(tf.cast(depth > 0.0, tf.float32), -1, keepdims=True)
    usual = tf.reduce_mean(depth, -1, keepdims=True) / tf.maximum(share, 0.5)
    limit = tf.where(share > 0.5, tf.minimum(depth, 2.0 * usual + 2.0), 0.0)
    top, bottom, left, right = tf.unstack(row < limit)
    return top | bottom[::-1] | transposed(left | right[::-1])


def _lines(dark: tf.Tensor, bands: tf.Tensor) -> tf.Tensor:
    """Long thin lines along either axis, above all those from edge to edge."""
    # The lines sought run from left to right in both.
    masks = tf.stack([bands, dark & ~bands])
    bands, shown = tf.unstack(tf.cast(tf.stack([masks, transposed(masks)], 1), tf.float32))
    thin = shown - greatest(-greatest(-shown, _THIN // 2, -2), _THIN // 2, -2)
    # Where lines cross, neither is thin.
    drawn = -greatest(-greatest(thin, _GAP, -1), _GAP, -1) * shown
    blocks = SIDE // _BLOCK
    blocky = [2, SIDE, blocks, _BLOCK]
    ends = np.ones(blocks, np.float32)
    ends[[0, -1]] += _END * SIDE / _BLOCK
    sums = path_sums(tf.reduce_sum(tf.reshape(tf.maximum(drawn, bands), blocky), -1) * ends)
    is_long = sums[..., tf.newaxis] >= _LONG * SIDE
    lines = is_long & (tf.reshape(thin, blocky) > 0.0)
    along, across = tf.unstack(tf.reshape(lines, [2, SIDE, SIDE]))
    return along | transposed(across)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What hangs together, each tensor [k]; lengths in cells, across in cells as high as wide."""

    mass: tf.Tensor
    top: tf.Tensor
    bottom: tf.Tensor
    left: tf.Tensor
    right: tf.Tensor
    is_box: tf.Tensor
    is_flat: tf.Tensor
    at_edge: tf.Tensor

    @property
    def width(self) -> tf.Tensor:
        return self.right - self.left

    @property
    def height(self) -> tf.Tensor:
        return self.bottom - self.top


def _chosen(
    ink: tf.Tensor, dark: tf.Tensor, bands: tf.Tensor, has_lines: tf.Tensor, aspect: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # On a grid twice as wide, gaps of a cell are closed.
    pairs = tf.reshape(dark, [SIDE // 2, 2, SIDE // 2, 2])
    cells = tf.where(dark)
    labels = tf.gather_nd(components(tf.reduce_any(pairs, axis=[1, 3])), cells // 2)
    part = tf.unique(labels).idx
    edge = tf.pad(tf.zeros([SIDE - 2, SIDE - 2], tf.bool), [[1, 1], [1, 1]], constant_values=True)
    edge |= greatest_around(tf.cast(bands, tf.float32), 1) > 0.0
    parts = _measured(cells, part, tf.gather_nd(ink, cells), tf.gather_nd(edge, cells), aspect)
    belongs, is_one, at_edge = _digit_of(parts, has_lines)
    kept = tf.scatter_nd(cells, tf.cast(tf.gather(belongs, part), tf.float32), [SIDE, SIDE])
    return greatest_around(kept, 1), is_one, at_edge


def _measured(
    cells: tf.Tensor, part: tf.Tensor, ink: tf.Tensor, edge: tf.Tensor, aspect: tf.Tensor
) -> _Parts:
    """From each dark cell's place [n, 2], the number of its part, its ink, is it at the edge."""
    count = tf.reduce_max(part) + 1
    cells = tf.cast(cells, tf.float32)
    first = -tf.math.unsorted_segment_max(-cells, part, count)
    size = tf.math.unsorted_segment_max(cells, part, count) + 1.0 - first
    # From the middle of its part's bounding box: -1..1.
    place = (2.0 * (cells - tf.gather(first, part)) + 1.0) / tf.gather(size, part) - 1.0
    outward = tf.reduce_max(tf.abs(place), 1)
    in_corners = [tf.reduce_all(place * corner > _CORNER, 1) for corner in _CORNERS]
    each = [ink, tf.ones_like(ink), outward > _RIM, edge, *in_corners]
    each = tf.stack([tf.cast(values, tf.float32) for values in each], 1)
    totals = tf.unstack(tf.math.unsorted_segment_sum(each, part, count), axis=1)
    mass, area, rim, at_edge, *corners = totals
    (top, left), (height, width) = (tf.unstack(values, axis=1) for values in (first, size))
    thickness = mass / ((height + width) * tf.maximum(height, width))
    has_corners = tf.math.count_nonzero(tf.stack(corners), axis=0) >= 3
    return _Parts(
        mass=mass,
        top=top,
        bottom=top + height,
        left=left * aspect,
        right=(left + width) * aspect,
        is_box=has_corners & (rim / area > _ON_RIM) & (thickness < _THIN_BOX),
        is_flat=width * aspect > _FLAT * height,
        at_edge=at_edge > 0.0,
    )


def _digit_of(parts: _Parts, has_lines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which parts are the digit, bool [k], is it one, and at the edge; are there lines?"""
    is_foreign = parts.is_box | parts.at_edge
    is_odd = is_foreign | parts.is_flat
    main = tf.cast(tf.argmax(tf.where(is_odd, 0.1 * parts.mass, parts.mass)), tf.int32)
    belongs = is_main = tf.equal(tf.range(tf.size(parts.mass)), main)
    share = parts.mass / tf.gather(parts.mass, main)
    sides = tf.stack([-parts.top, parts.bottom, -parts.left, parts.right])
    for _ in range(_ROUNDS):
        above, bottom, before, right = tf.unstack(
            tf.reduce_max(tf.where(belongs, sides, -np.inf), 1)
        )
        height, width = bottom + above, right + before
        longer = tf.maximum(height, width)
        beside = tf.maximum(parts.left - right, -before - parts.right) / longer
        beyond = tf.maximum(parts.top - bottom, -above - parts.bottom) / longer
        is_bar = (parts.width < _BAR * width) & (beyond < _BAR_GAP)
        is_stroke = ~is_foreign & (~parts.is_flat | is_bar) & (share >= _SPECK)
        belongs |= is_stroke & (beside < _BESIDE_GAP) & (beyond < _BEYOND_GAP)

    above, bottom, before, right = tf.unstack(tf.gather(sides, main, axis=1))
    is_other = ~is_main & ~is_odd
    common = tf.minimum(parts.right, right) - tf.maximum(parts.left, -before)
    is_beside = common < 0.2 * tf.minimum(parts.width, right + before)
    is_apart = is_other & ~belongs & (share >= _OTHER)
    is_beyond = (parts.top > bottom) | (parts.bottom < -above)
    is_beyond &= parts.height > _TALL * (bottom + above)
    is_inside = belongs & tf.reduce_all(sides < tf.gather(sides, [main], axis=1), 0)
    is_cut = parts.at_edge & (parts.height < _SPANS) & (parts.width < _SPANS)
    is_rest_of_line = has_lines & (tf.minimum(parts.width, parts.height) < _THIN / 2)
    is_one = ~(
        tf.reduce_any(is_apart | (is_other & (is_beside | is_beyond) & (share >= _BESIDE)))
        | tf.reduce_any(is_main & (parts.is_box | parts.is_flat | is_cut | is_rest_of_line))
        | (tf.math.count_nonzero(is_other & is_inside) >= 2)  # a face's
        | (width > _WIDE * height)
    )
    # What stands apart may be another digit, or the rest of one that a fine pen left in pieces.
    return belongs | is_apart, is_one, tf.reduce_any(is_main & parts.at_edge)
