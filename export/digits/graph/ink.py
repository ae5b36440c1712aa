"""How much ink each pixel of a picture holds, inside the graph: on any paper, in any light."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from export.digits.graph import strokes
from export.digits.graph.raster import greatest_around, least_around

_BLANK = 0.08  # a picture whose strongest ink differs less than this from its paper is blank
_REACH = 21  # cells of `strokes.SIDE`, on each side: what is wider is paper of another shade
_BORDER = 0.05  # share of the picture, on each side, that shows how the light falls
_BORDER_STEP = 3  # of its cells, one in so many
_FITS = 6  # reweightings after which the fit to it has settled
_DIM = 0.25  # light paper is taken to be at least this bright
_SAMPLES = 48  # along each side, of the pixels whose noise is measured
FEW = 64  # pixels; a picture no longer than this shows a digit and nothing else


def ink_of(grey: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A grey picture, float32 [h, w] in 0..1 → the digit's ink, likewise, and is it one digit.

    The ink of a blank page is 0.
    """
    shape = tf.shape(grey)
    coarse = tf.image.resize(grey[:, :, tf.newaxis], [strokes.SIDE] * 2, antialias=True)[:, :, 0]
    has_more = tf.reduce_max(shape) > FEW
    to_ink = _to_ink(coarse, has_more)
    noise = _noise(grey, to_ink)

    def chosen() -> tuple[tf.Tensor, tf.Tensor]:
        height, width = tf.unstack(tf.cast(shape, tf.float32), num=2)
        ink = tf.nn.relu(_applied(to_ink, coarse))
        return strokes.of_digit(ink, noise, width / height)

    whole = tf.ones_like(coarse), tf.constant(True)
    mask, is_one = tf.cond(has_more, chosen, lambda: whole)
    signed = _applied(_stretched(to_ink * mask[:, :, tf.newaxis], shape), grey)
    strongest = tf.reduce_max(signed)
    # Of so many pixels some exceed 4 sigmas on any paper; 6 hardly any, unless JPEG clumps them.
    is_blank = strongest <= tf.maximum(_BLANK, 2.0 * noise)
    factor = tf.where(is_blank, 0.0, 1.0 / tf.maximum(strongest - noise, _BLANK))
    return tf.clip_by_value((signed - noise) * factor, 0.0, 1.0), is_one


def _to_ink(coarse: tf.Tensor, has_more: tf.Tensor) -> tf.Tensor:
    """By what grey is multiplied, and what is added to it then, to be ink: [side, side, 2].

    Light falls on ink and paper alike: dark ink is known by its share of the paper's brightness.
    """
    paper, is_dark = _paper(coarse, has_more)
    times = tf.where(is_dark, 1.0, -1.0 / tf.maximum(paper, _DIM))
    return tf.stack([times, -times * paper], axis=2)


def _applied(to_ink: tf.Tensor, grey: tf.Tensor) -> tf.Tensor:
    times, plus = tf.unstack(to_ink, axis=2, num=2)
    return times * grey + plus


def _stretched(coarse: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.image.resize(coarse, size)


def _paper(coarse: tf.Tensor, has_more: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Brightness of the bare paper, [side, side], and whether the ink is lighter.

    A slope of the light, as along the border; and where a picture has more to show, what differs
    from it clearly, by a morphological closing: of all around, the lightest; of that, the darkest.
    It follows the edge of a shadow or of a table, and covers what is narrower than its reach.
    """
    slope = _slope(coarse)
    level = coarse - slope
    bare = tf.zeros_like(level), tf.reduce_sum(level * tf.abs(level)) > 0.0
    closed, is_dark = tf.cond(has_more, lambda: _closed(level), lambda: bare)
    return slope + tf.where(tf.abs(closed) > _BLANK, closed, 0.0), is_dark


def _closed(level: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    brightest, darkness = tf.unstack(greatest_around(tf.stack([level, -level]), _REACH))
    # Wherever there is contrast, most is paper.
    is_dark = tf.reduce_sum(2.0 * level - brightest + darkness) < 0.0
    sign = tf.where(is_dark, -1.0, 1.0)
    closed = sign * least_around(tf.where(is_dark, darkness, brightest), _REACH)
    # Noise lifts it everywhere alike.
    return closed - _median(closed[::2, ::2] - level[::2, ::2]), is_dark


def _slope(coarse: tf.Tensor) -> tf.Tensor:
    """The quadratic surface that fits the border best, [side, side].

    Best is the least absolute difference, by reweighted least squares, so that ink which runs over
    the edge does not tilt it.
    """
    side = strokes.SIDE
    axis = (2.0 * np.arange(side, dtype=np.float32) + 1.0) / side - 1.0
    x, y = np.meshgrid(axis, axis)
    cells = np.flatnonzero(np.maximum(abs(x), abs(y)) > 1.0 - 2.0 * _BORDER)[::_BORDER_STEP]
    x, y = x.ravel()[cells], y.ravel()[cells]
    terms = tf.constant(np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1))
    least = tf.constant(1e-6 * np.eye(6, dtype=np.float32))
    brightness = tf.gather(tf.reshape(coarse, [-1, 1]), cells)
    distances = tf.ones_like(brightness)
    for _ in range(_FITS):
        weights = 1.0 / tf.maximum(distances, 0.003)
        weighted = terms * (weights / tf.reduce_sum(weights))
        surface = tf.linalg.solve(
            tf.matmul(weighted, terms, transpose_a=True) + least,
            tf.matmul(weighted, brightness, transpose_a=True),
        )
        distances = tf.abs(terms @ surface - brightness)
    one, x, y, xy, xx, yy = tf.unstack(surface[:, 0], num=6)
    down = axis[:, np.newaxis]
    return one + x * axis + xx * axis**2 + down * (y + xy * axis) + yy * down**2


def _noise(grey: tf.Tensor, to_ink: tf.Tensor) -> tf.Tensor:
    """What the paper itself shows (grain, JPEG noise) is no ink. 4.5 medians are 3 sigmas."""
    rows, columns = tf.unstack(-(-tf.shape(grey) // _SAMPLES), num=2)
    sample = grey[rows // 2 :: rows, columns // 2 :: columns]
    signed = _applied(_stretched(to_ink, tf.shape(sample)), sample)
    return tf.minimum(4.5 * _median(tf.abs(signed)), 0.3)


def _median(values: tf.Tensor) -> tf.Tensor:
    values = tf.reshape(values, [-1])
    upper = tf.size(values) - tf.size(values) // 2
    return tf.reduce_min(tf.math.top_k(values, upper, sorted=False).values)
