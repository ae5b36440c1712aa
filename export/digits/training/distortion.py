"""Bent copies of digits: the same digit as another hand might have written it.

Each image is turned, stretched, slanted and shifted by small random amounts, and then warped: the
corners of a coarse mesh move on their own, and each cell follows its four corners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tensorflow as tf

from export.digits.subject import SIDE


@dataclass(frozen=True, slots=True)
class Distortion:
    """How far images are bent, at most, either way."""

    rotation: float = 0.15  # radians
    scale: float = 0.08  # natural logarithm of the factor, each axis its own
    shear: float = 0.15  # pixels sideways per pixel down
    shift: float = 1.5  # pixels
    warp: float = 2.0  # pixels that each corner of the mesh moves by itself
    mesh: int = 2  # cells a side; 1 where it does not divide the side


def distort(images: tf.Tensor, seed: tf.Tensor, by: Distortion) -> tf.Tensor:
    """Bend each image its own way.

    Args:
        images: uint8 [n, SIDE, SIDE, CHANNELS].
        seed: int32 [2]; the same seed bends alike.
        by: how far.

    Returns:
        uint8 [n, SIDE, SIDE, CHANNELS].
    """
    if SIDE % by.mesh:
        by = replace(by, mesh=1)
    size = SIDE // by.mesh
    maps = _projections(*_sources(tf.shape(images)[0], seed, by), size)

    def cell(row: int, column: int) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=maps[:, row, column],
            output_shape=[size, size],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    cells = range(by.mesh)
    rows = [tf.concat([cell(row, column) for column in cells], axis=2) for row in cells]
    return tf.concat(rows, axis=1)


def _sources(count: tf.Tensor, seed: tf.Tensor, by: Distortion) -> tuple[tf.Tensor, tf.Tensor]:
    """Where in the original each corner of the mesh lies: x and y, [n, mesh + 1, mesh + 1]."""
    affine_seed, warp_seed = tf.unstack(tf.random.split(seed, 2))
    limits = [by.rotation, by.scale, by.scale, by.shear, by.shift, by.shift]
    drawn = tf.random.stateless_uniform([6, count, 1, 1], affine_seed, -1.0, 1.0)
    reach = drawn * tf.constant(limits, tf.float32, [6, 1, 1, 1])
    angle, log_x, log_y, shear, shift_x, shift_y = tf.unstack(reach)
    knots = by.mesh + 1
    x, y = tf.meshgrid(*2 * [tf.linspace(-SIDE / 2, SIDE / 2, knots)])
    warp = tf.random.stateless_uniform([2, count, knots, knots], warp_seed, -by.warp, by.warp)
    slanted = x + shear * y
    centre = (SIDE - 1) / 2
    turned_x = tf.exp(log_x) * (tf.cos(angle) * slanted - tf.sin(angle) * y)
    turned_y = tf.exp(log_y) * (tf.sin(angle) * slanted + tf.cos(angle) * y)
    return turned_x + shift_x + centre + warp[0], turned_y + shift_y + centre + warp[1]


def _projections(x: tf.Tensor, y: tf.Tensor, size: int) -> tf.Tensor:
    """The projective maps from a square of `size` pixels to each cell's four corners.

    Source: P. Heckbert, "Fundamentals of Texture Mapping", 1989, section 2.2.3, square to
    quadrilateral; corners 0 to 3 run clockwise from the top left.

    Returns:
        float32 [n, mesh, mesh, 8], as ImageProjectiveTransformV3 takes them.
    """
    x0, x1, x2, x3 = x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, 1:], x[:, 1:, :-1]
    y0, y1, y2, y3 = y[:, :-1, :-1], y[:, :-1, 1:], y[:, 1:, 1:], y[:, 1:, :-1]
    dx1, dx2, dx3 = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy3 = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    g, h = (dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area
    a, b = (x1 - x0 + g * x1) / size, (x3 - x0 + h * x3) / size
    d, e = (y1 - y0 + g * y1) / size, (y3 - y0 + h * y3) / size
    g, h = g / size, h / size
    # A pixel's centre lies half a pixel in from its corner; the operation wants the last number 1.
    parts = [a, b, x0 + (a + b) / 2, d, e, y0 + (d + e) / 2, g, h]
    return tf.stack(parts, axis=-1) / (1 + (g + h) / 2)[..., tf.newaxis]
