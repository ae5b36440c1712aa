"""The `fast` recipe: the network sees what it is worst at, bent anew each time, in a compiled loop.

One round: choose the images with the greatest losses, bend them, take some steps of Adam on them.
An epoch is as many rounds as see as many images as the training set holds. What is kept in the end
is a moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from export.data import Split
from export.distortion import Distortion, distort

Steps = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """Chosen on MNIST's validation images."""

    learning_rate: float = 1e-2  # Adam's peak; high, because it falls to nearly nothing
    warmup: float = 0.1  # share of all steps in which the rate rises from 0
    last_rate: float = 0.05  # share of the peak left in the end, so that there are steps to average
    averaged: float = 0.15  # share of all steps that the weights' moving average reaches back over
    round: float = 0.25  # share of the images chosen at a time: how fresh the choice is
    hardness: float = 1.5  # an image's odds are (its last loss + floor) ** hardness
    floor: float = 0.005  # nats; keeps images that are learnt already in play
    distortion: Distortion = field(default_factory=Distortion)


def train(
    network: keras.Model,
    images: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    settings: Settings | None = None,
) -> Iterator[float]:
    """Train the network in place, and yield after every epoch the mean loss of the images it saw.

    These are the hard ones, bent, so it lies well above the loss of the images as they are. The
    network holds the averaged weights once the iterator is exhausted.
    """
    settings = settings or Settings()
    total = len(images)
    batch_size = min(batch_size, total)
    steps = min(max(1, round(total * settings.round / batch_size)), total // batch_size)
    rounds = round(total / (steps * batch_size))
    optimizer = _adam(epochs * rounds * steps, settings)
    optimizer.build(network.trainable_variables)
    fit = _compiled_steps(network, optimizer)
    pixels = tf.constant(images.images[..., np.newaxis])
    labels = tf.constant(images.labels, tf.int32)
    # What a network loses that knows nothing, until an image is seen.
    losses = tf.Variable(tf.fill([total], tf.math.log(10.0)))

    def one_round(key: tf.Tensor) -> tf.Tensor:
        choice_seed, distortion_seed = tf.unstack(tf.random.split(key, 2))
        chosen = _hardest(losses, steps * batch_size, choice_seed, settings)
        bent = distort(tf.gather(pixels, chosen), distortion_seed, settings.distortion)
        seen = fit(
            tf.reshape(bent, [steps, batch_size, 28, 28]),
            tf.reshape(tf.gather(labels, chosen), [steps, batch_size]),
        )
        losses.scatter_nd_update(chosen[:, tf.newaxis], tf.reshape(seen, [-1]))
        return tf.reduce_mean(seen)

    compiled_round = tf.function(one_round, autograph=False)
    for epoch in range(epochs):
        numbers = range(epoch * rounds, (epoch + 1) * rounds)
        mean = float(np.mean([compiled_round(tf.constant([seed, number])) for number in numbers]))
        if epoch == epochs - 1:
            optimizer.finalize_variable_values(network.trainable_variables)
        yield mean


def _adam(steps: int, settings: Settings) -> keras.optimizers.Optimizer:
    warmup_steps = int(settings.warmup * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=steps - warmup_steps,
        alpha=settings.last_rate,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup_steps,
    )
    momentum = 1.0 - 1.0 / max(1.0, settings.averaged * steps)
    return keras.optimizers.Adam(rate, use_ema=True, ema_momentum=momentum)


def _compiled_steps(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Steps:
    """A function that takes steps of Adam and returns each image's loss, [steps, batch].

    It takes images uint8 [steps, batch, 28, 28] and labels int32 [steps, batch].
    """
    weights = network.trainable_variables

    def fit(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        steps = labels.shape[0]

        def one_step(step: tf.Tensor, losses: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                answers = network(tf.cast(images[step], tf.float32) / 255.0, training=True)
                loss = keras.losses.sparse_categorical_crossentropy(labels[step], answers)
                mean = tf.reduce_mean(loss)
            optimizer.apply(tape.gradient(mean, weights))
            return step + 1, tf.tensor_scatter_nd_update(losses, [[step]], loss[tf.newaxis])

        _, losses = tf.while_loop(
            lambda step, _: step < steps, one_step, [tf.constant(0), tf.zeros(labels.shape)]
        )
        return losses

    compiled: Steps = tf.function(fit, autograph=False, jit_compile=True)
    return compiled


def _hardest(losses: tf.Tensor, count: int, seed: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Indices of `count` different images, the likelier the greater their last loss, shuffled."""
    draw_seed, order_seed = tf.unstack(tf.random.split(seed, 2))
    uniform = tf.random.stateless_uniform(tf.shape(losses), draw_seed, 1e-7, 1.0)
    # The top k of log odds plus Gumbel noise are k draws without repeats.
    gumbel = -tf.math.log(-tf.math.log(uniform))
    odds = settings.hardness * tf.math.log(losses + settings.floor)
    chosen = tf.math.top_k(odds + gumbel, count).indices
    return tf.random.experimental.stateless_shuffle(chosen, order_seed)
