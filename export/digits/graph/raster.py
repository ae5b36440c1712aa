"""What is asked of a small picture of fixed size: neighbourhoods, paths, components.

Written in shifts of whole pictures. Custom operations TensorFlow Serving does not know, and pooling
takes ten times as long on pictures of one channel.
"""

from __future__ import annotations

import tensorflow as tf


def greatest(image: tf.Tensor, reach: int, axis: int) -> tf.Tensor:
    """The greatest of the values at most `reach` away along an axis of [h, w]."""
    outside = image.dtype.min
    room = [[reach, reach] if axis == a else [0, 0] for a in range(2)]
    joined, together, size = tf.pad(image, room, constant_values=outside), 1, 2 * reach + 1
    while together < size:
        step = min(together, size - together)
        joined = tf.maximum(_from(joined, step, axis), _until(joined, step, axis))
        together += step
    return joined


def greatest_around(image: tf.Tensor, reach: int) -> tf.Tensor:
    """The greatest of the values in the square around each pixel of [h, w]."""
    return greatest(greatest(image, reach, 0), reach, 1)


def least_around(image: tf.Tensor, reach: int) -> tf.Tensor:
    """The least, likewise."""
    return -greatest_around(-image, reach)


def path_sums(image: tf.Tensor, axis: int) -> tf.Tensor:
    """The greatest sum along a path across [h, w] along the axis through each pixel.

    A path drifts aside by a pixel at most where two of its halves, quarters, … of a power of two
    pixels meet, so that the sums take as many steps as the axis' length has bits.
    """
    length = image.shape[axis]
    ahead = behind = image
    step = 1
    while step < length:
        room = [[0, step] if axis == a else [0, 0] for a in range(2)]
        ahead += tf.pad(_from(greatest(ahead, 1, 1 - axis), step, axis), room)
        room = [[step, 0] if axis == a else [0, 0] for a in range(2)]
        behind += tf.pad(_until(greatest(behind, 1, 1 - axis), step, axis), room)
        step *= 2
    return ahead + behind - image


def components(mask: tf.Tensor) -> tf.Tensor:
    """Of bool [h, w], int32 [h, w]: the same number for pixels that hang together, 0 elsewhere.

    Every pixel takes the greatest number around it, hands it to the pixel whose number it had, and
    asks there for a greater one (Y. Zhang, A. Azad, Z. Hu, "FastSV", 2020), so that the rounds grow
    with the logarithm of a component's length.
    """
    size = mask.shape.num_elements()
    ink = tf.cast(mask, tf.int32)
    first = tf.reshape(tf.range(1, size + 1), mask.shape) * ink

    def spread(labels: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        around = greatest_around(labels, 1) * ink
        parents = tf.math.unsorted_segment_max(
            tf.reshape(around, [-1]), tf.reshape(labels, [-1]), size + 1
        )
        new = tf.maximum(around, tf.gather(parents, labels)) * ink
        new = tf.maximum(new, tf.gather(parents, new)) * ink
        return new, tf.reduce_any(new > labels)

    labels, _ = tf.while_loop(lambda _, grows: grows, spread, (first, tf.constant(True)))
    return labels


def _from(image: tf.Tensor, start: int, axis: int) -> tf.Tensor:
    return image[start:] if axis == 0 else image[:, start:]


def _until(image: tf.Tensor, end: int, axis: int) -> tf.Tensor:
    return image[:-end] if axis == 0 else image[:, :-end]
