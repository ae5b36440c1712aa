"""Bent copies of digits: the same digit as another hand might have written it.

Each image is turned, stretched, slanted and shifted by small random amounts, and warped by a smooth
random field: neighbouring pixels move together, distant ones on their own. Every pixel of the copy
is read from the original once, so nothing is blurred twice.

Source of the fields: P. Simard, D. Steinkraus and J. Platt, "Best Practices for Convolutional
Neural Networks Applied to Visual Document Analysis", 2003, elastic distortions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from export.digits.subject import CHANNELS, SIDE


@dataclass(frozen=True, slots=True)
class Distortion:
    """How far images are bent."""

    rotation: float = 0.15  # radians, at most, either way; so with the next three
    scale: float = 0.08  # natural logarithm of the factor, each axis its own
    shear: float = 0.15  # pixels sideways per pixel down
    shift: float = 1.5  # pixels
    warp: float = 0.9  # pixels that the fields move along each axis, root mean square
    smoothness: float = 4.0  # pixels; standard deviation of the Gaussian that smooths the fields
    fields: int = 2048  # drawn once; each image gets a new mix of two of them


def fields(seed: tf.Tensor, by: Distortion) -> tf.Tensor:
    """White noise, smoothed: how far each pixel moves along x and y.

    Args:
        seed: int32 [2]; the same seed gives the same fields.
        by: how many, how far, how smooth.

    Returns:
        float32 [fields, 2, SIDE, SIDE], pixels.
    """
    margin = math.ceil(3 * by.smoothness)  # beyond it, noise hardly reaches the image
    reach = tf.range(-margin, SIDE + margin, dtype=tf.float32)
    distance = tf.range(SIDE, dtype=tf.float32)[:, tf.newaxis] - reach
    smooth = tf.exp(-0.5 * (distance / by.smoothness) ** 2)
    noise = tf.random.stateless_normal([by.fields, 2, len(reach), len(reach)], seed)
    field = smooth @ noise @ tf.transpose(smooth)
    # A weighted sum of independent normal numbers has the weights' norm as its standard deviation.
    deviation = tf.reduce_sum(smooth[SIDE // 2] ** 2)
    return field * by.warp / deviation


def distort(images: tf.Tensor, fields: tf.Tensor, seed: tf.Tensor, by: Distortion) -> tf.Tensor:
    """Bend each image its own way.

    Args:
        images: uint8 [n, SIDE, SIDE, CHANNELS].
        fields: float32 [any number, 2, SIDE, SIDE], as `fields` draws them.
        seed: int32 [2]; the same seed bends alike.
        by: how far.

    Returns:
        uint8 [n, SIDE, SIDE, CHANNELS].
    """
    count, centre = tf.shape(images)[0], (SIDE - 1) / 2
    affine_seed, pair_seed, mix_seed = tf.unstack(tf.random.split(seed, 3))
    limits = [by.rotation, by.scale, by.scale, by.shear, by.shift, by.shift]
    drawn = tf.random.stateless_uniform([count, 6], affine_seed, -1.0, 1.0) * limits
    angle, log_x, log_y, shear, shift_x, shift_y = tf.unstack(drawn, axis=1)
    cos, sin = tf.cos(angle), tf.sin(angle)
    row_x = [tf.exp(log_x) * cos, tf.exp(log_x) * (cos * shear - sin), shift_x + centre]
    row_y = [tf.exp(log_y) * sin, tf.exp(log_y) * (sin * shear + cos), shift_y + centre]
    affine = tf.stack([tf.stack(row_x, axis=1), tf.stack(row_y, axis=1)], axis=1)
    pair = tf.random.stateless_uniform([2, count], pair_seed, 0, fields.shape[0], tf.int32)
    # On a circle, so that the mixture moves as far as its parts.
    mix = tf.random.stateless_uniform([count], mix_seed, 0.0, 2 * math.pi)
    sources = _sources(affine, fields, pair, tf.stack([tf.cos(mix), tf.sin(mix)]))
    return _sampled(images, *tf.unstack(sources, axis=1))


# Two programs: in one, XLA would find each pixel's source again for each of its four neighbours.
@tf.function(autograph=False, jit_compile=True)  # type: ignore[untyped-decorator]
def _sources(affine: tf.Tensor, fields: tf.Tensor, pair: tf.Tensor, mix: tf.Tensor) -> tf.Tensor:
    """Where in the original each pixel lies: x and y, float32 [n, 2, SIDE, SIDE]."""
    x, y = tf.meshgrid(*2 * [tf.range(SIDE, dtype=tf.float32) - (SIDE - 1) / 2])
    by_x, by_y, shift = (part[..., tf.newaxis, tf.newaxis] for part in tf.unstack(affine, axis=2))
    first, second = (part[:, tf.newaxis, tf.newaxis, tf.newaxis] for part in tf.unstack(mix))
    warp = first * tf.gather(fields, pair[0]) + second * tf.gather(fields, pair[1])
    return by_x * x + by_y * y + shift + warp


@tf.function(autograph=False, jit_compile=True)  # type: ignore[untyped-decorator]
def _sampled(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Each pixel from the four nearest its source, bilinear; 0 beyond the edge."""
    width = SIDE + 2  # with a border of zeros
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    pixels = tf.reshape(padded, [-1, width * width, CHANNELS])
    # From the border at one end to just before that at the other.
    x, y = (tf.clip_by_value(axis + 1, 0.0, width - 1.001) for axis in (x, y))
    left, top = tf.cast(x, tf.int32), tf.cast(y, tf.int32)
    across = (x - tf.cast(left, tf.float32))[..., tf.newaxis]
    down = (y - tf.cast(top, tf.float32))[..., tf.newaxis]

    def at(offset: int) -> tf.Tensor:
        return tf.cast(tf.gather(pixels, top * width + left + offset, batch_dims=1), tf.float32)

    upper = at(0) + across * (at(1) - at(0))
    lower = at(width) + across * (at(width + 1) - at(width))
    return tf.cast(tf.round(upper + down * (lower - upper)), tf.uint8)
