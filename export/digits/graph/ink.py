"""How much ink each pixel of a picture holds, inside the graph: on any paper, in any light."""

from __future__ import annotations

import tensorflow as tf

from export.digits.graph.decoding import resized

_BORDER = 0.06  # share of the picture, on each side, taken to be bare paper
_BLANK = 0.08  # a picture whose strongest ink differs less than this from its paper is blank
_PAPER_SIDE = 96.0  # pixels; the light changes slowly
_PAPER_FITS = 6  # reweightings after which the fit to the paper has settled
_DIM = 0.25  # light paper is taken to be at least this bright


def ink_of(grey: tf.Tensor) -> tf.Tensor:
    """A grey picture, float32 [h, w] in 0..1 → its ink, likewise; that of a blank page is 0."""
    paper = _paper(grey)
    difference = grey - paper
    is_dark_paper = tf.reduce_sum(tf.nn.relu(difference) ** 2) > tf.reduce_sum(
        tf.nn.relu(-difference) ** 2
    )
    # Light falls on ink and paper alike: dark ink is known by its share of the paper's brightness.
    signed = tf.where(is_dark_paper, difference, -difference / tf.maximum(paper, _DIM))
    # What the paper itself shows (grain, JPEG noise) is no ink. 4.5 medians are 3 sigmas.
    noise = tf.minimum(4.5 * _median(tf.abs(tf.boolean_mask(signed, _border(grey)))), 0.3)
    strongest = tf.reduce_max(signed)
    ink = tf.nn.relu(signed - noise) / tf.maximum(strongest - noise, _BLANK)
    # Of so many pixels some exceed 4 sigmas on any paper; 6 hardly any, unless JPEG clumps them.
    is_blank = strongest <= tf.maximum(_BLANK, 2.0 * noise)
    return tf.where(is_blank, tf.zeros_like(ink), tf.minimum(ink, 1.0))


def _median(values: tf.Tensor) -> tf.Tensor:
    return tf.sort(values)[tf.size(values) // 2]


def _border(grey: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(grey), num=2)
    margin = tf.cast(tf.math.ceil(_BORDER * tf.cast(tf.shape(grey), tf.float32)), tf.int32)
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)[tf.newaxis, :]
    return (
        (rows < margin[0])
        | (rows >= height - margin[0])
        | (columns < margin[1])
        | (columns >= width - margin[1])
    )


def _paper(grey: tf.Tensor) -> tf.Tensor:
    """Brightness of the bare paper, [h, w]: the quadratic surface that fits the border best.

    Best is the least absolute difference, by reweighted least squares, so that ink which runs over
    the edge does not tilt the surface.
    """
    scale = _PAPER_SIDE / tf.cast(tf.reduce_max(tf.shape(grey)), tf.float32)
    coarse = resized(grey[:, :, tf.newaxis], tf.minimum(1.0, scale))[:, :, 0]
    border = _border(coarse)
    brightness = tf.boolean_mask(coarse, border)
    sample = tf.stack([tf.boolean_mask(term, border) for term in _terms(coarse)], axis=1)
    distances = tf.ones_like(brightness)
    for _ in range(_PAPER_FITS):
        weights = 1.0 / tf.maximum(distances, 0.003)
        weighted = tf.transpose(sample) * weights / tf.reduce_sum(weights)
        normal = weighted @ sample + 1e-4 * tf.eye(6)  # solvable also for a line or a dot
        surface = tf.linalg.solve(normal, tf.linalg.matvec(weighted, brightness)[:, tf.newaxis])[
            :, 0
        ]
        distances = tf.abs(tf.linalg.matvec(sample, surface) - brightness)
    return tf.add_n([c * term for c, term in zip(tf.unstack(surface), _terms(grey), strict=True)])


def _terms(grey: tf.Tensor) -> list[tf.Tensor]:
    """What a quadratic surface is made of, six times float32 [h, w]; the picture spans -1..1."""
    height, width = tf.unstack(tf.cast(tf.shape(grey), tf.float32), num=2)
    y = (2.0 * tf.range(height) + 1.0) / height - 1.0
    x = (2.0 * tf.range(width) + 1.0) / width - 1.0
    x, y = tf.meshgrid(x, y)
    return [tf.ones_like(x), x, y, x * y, x * x, y * y]
