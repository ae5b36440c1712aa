"""From the network's probabilities to the answers that callers get."""

from __future__ import annotations

import tensorflow as tf

from export.digits.subject import CLASSES

_UNSURE = 0.4  # share of the network's answer, where a picture does not show one digit


def of_network(probabilities: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The network's answers, float32 [n, classes], for pixels float32 [n, *SHAPE], if any.

    It was never shown an empty page, and has an opinion on it all the same.
    """
    is_blank = tf.equal(tf.reduce_max(pixels, axis=list(range(1, len(pixels.shape)))), 0.0)
    return tf.where(is_blank[:, tf.newaxis], 1.0 / len(CLASSES), probabilities)


def told(probabilities: tf.Tensor, is_one: tf.Tensor) -> tf.Tensor:
    """Answers [n, classes] about pictures, none sure where a picture is not one digit, bool [n].

    The network knows ten digits and nothing else: it may be as sure of a face as of an 8. There,
    what it says is mixed with ten equal shares: the order stays, and the highest is 0.46 at most.
    """
    unsure = _UNSURE * probabilities + (1.0 - _UNSURE) / len(CLASSES)
    return tf.where(is_one[:, tf.newaxis], probabilities, unsure)
