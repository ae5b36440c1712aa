"""A TensorFlow operation that takes time and leaves the CPU alone, as a device would."""

from __future__ import annotations

import tensorflow as tf


def wait(value: tf.Tensor, micros: tf.Tensor | int) -> tf.Tensor:
    """The value, after so many microseconds."""
    of = {"output_types": [value.dtype], "output_shapes": [value.shape]}
    row = tf.data.Dataset.from_tensors(value)._variant_tensor
    late = tf.raw_ops.SleepDataset(
        input_dataset=row, sleep_microseconds=tf.cast(micros, tf.int64), **of
    )
    # Without it the look for a second element would wait as long again.
    one = tf.raw_ops.TakeDataset(input_dataset=late, count=tf.constant(1, tf.int64), **of)
    return tf.raw_ops.DatasetToSingleElement(dataset=one, **of)[0]
