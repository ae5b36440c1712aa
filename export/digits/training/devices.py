"""Where training runs: on all GPUs together, on the one there is, or else on the CPU."""

from __future__ import annotations

import tensorflow as tf


def strategy(kind: str = "GPU") -> tf.distribute.Strategy:
    """All devices of a kind, each with its share of every batch, where there are several.

    With fewer than two, TensorFlow's own strategy: a GPU is taken if there is one.
    """
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if kind == "GPU" and devices:
        # Without it a GPU adds up sums in any order, and a seed would not repeat a run to the bit.
        tf.config.experimental.enable_op_determinism()
    if len(devices) > 1:
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def described() -> str:
    """The devices of the current strategy, for the model card: `2 × GPU`, `CPU`."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return kind if replicas == 1 else f"{replicas} × {kind}"
