"""What is asked of a small picture of fixed size: neighbourhoods, paths, components.

Written in shifts of whole pictures. Custom operations TensorFlow Serving does not know; pooling
takes ten times as long on pictures of one channel, and gathering rows four times.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def transposed(image: tf.Tensor) -> tf.Tensor:
    """[..., w, h] of [..., h, w]; `tf.transpose` hands so little to threads, and waits for them."""
    *rest, height, width = image.shape.as_list()
    places = np.arange(height * width, dtype=np.int32).reshape(height, width).T
    return tf.gather(tf.reshape(image, [*rest, -1]), places, axis=len(rest))


def greatest(image: tf.Tensor, reach: int, axis: int) -> tf.Tensor:
    """The greatest of the values at most `reach` away along an axis, -2 or -1, of [..., h, w].

    Of three at a time, farther apart each time.
    """
    size = tf.constant(image.shape.as_list())
    reached = 0
    while reached < reach:
        step = min(2 * reached + 1, reach - reached)
        room = np.zeros((image.shape.rank, 2), np.int32)
        room[axis] = step
        page = tf.pad(image, room, constant_values=image.dtype.min)
        before, after = (tf.slice(page, begin, size) for begin in (0 * room[:, 0], 2 * room[:, 0]))
        image = tf.maximum(image, tf.maximum(before, after))
        reached += step
    return image


def greatest_around(image: tf.Tensor, reach: int) -> tf.Tensor:
    """The greatest of the values in the square around each pixel of [..., h, w]."""
    return greatest(greatest(image, reach, -2), reach, -1)


def least_around(image: tf.Tensor, reach: int) -> tf.Tensor:
    """The least, likewise."""
    return -greatest_around(-image, reach)


def path_sums(image: tf.Tensor) -> tf.Tensor:
    """The greatest sum along a path from left to right through each pixel of [..., h, w].

    A path drifts up or down by a pixel at most where two of its halves, quarters, … of a power of
    two pixels meet, so that the sums take as many steps as the width has bits.
    """
    both_ways = tf.stack([image, tf.reverse(image, [-1])])
    room = np.zeros((both_ways.shape.rank, 2), np.int32)
    step = 1
    while step < image.shape[-1]:
        room[-1, 1] = step
        both_ways += tf.pad(greatest(both_ways, 1, -2)[..., step:], room)
        step *= 2
    ahead, behind = tf.unstack(both_ways)
    return ahead + tf.reverse(behind, [-1]) - image


def components(mask: tf.Tensor) -> tf.Tensor:
    """Of bool [h, w], int32 [h, w]: the same number for pixels that hang together, 0 elsewhere.

    Every pixel takes the greatest number around it, hands it to the pixel whose number it had, and
    asks there for a greater one (Y. Zhang, A. Azad, Z. Hu, "FastSV", 2020), so that the rounds grow
    with the logarithm of a component's length.
    """
    size = mask.shape.num_elements()
    ink = tf.cast(mask, tf.int32)
    first = np.arange(1, size + 1, dtype=np.int32).reshape(mask.shape) * ink

    def spread(labels: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        around = greatest_around(labels, 1) * ink
        parents = tf.math.unsorted_segment_max(around, labels, size + 1)
        new = tf.maximum(around, tf.gather(parents, labels)) * ink
        new = tf.maximum(new, tf.gather(parents, new)) * ink
        return new, tf.reduce_any(new > labels)

    labels, _ = tf.while_loop(lambda _, grows: grows, spread, (first, tf.constant(True)))
    return labels
