"""The network sees the images that it reads worst, distorted in a new way each time; compiled.

One round: choose the images with the greatest losses, bend them, take some steps on them.
An epoch is as many rounds as see as many images as the training set holds. What is kept in the end
is a moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from export.digits.data.sources import Split
from export.digits.subject import CHANNELS, CLASSES, SHAPE, SIDE, WHITE
from export.digits.training.distortion import Distortion, distort, fields
from export.digits.training.optimizer import Rates, build

Fit = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """How it goes about it; the defaults are those of `best`, chosen on validation images."""

    round: float = 0.25  # share of the images chosen at a time: how fresh the choice is
    hardness: float = 1.0  # an image's odds are (its last loss + floor) ** hardness
    floor: float = 0.005  # nats; keeps images that are learnt already in play
    rates: Rates = field(default_factory=Rates)
    distortion: Distortion = field(default_factory=Distortion)


def train(
    network: keras.Model,
    images: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    settings: Settings,
) -> Iterator[float]:
    """Train the network in place, and yield after every epoch the mean loss of the images it saw.

    These are the hard ones, bent, so it lies well above the loss of the images as they are. The
    network holds the averaged weights once the iterator is exhausted.

    It runs on the devices of the current `tf.distribute` strategy, in whose scope the network was
    built; `batch_size` is over all of them, and rounded down to a multiple of their number.
    """
    total, replicas = len(images), tf.distribute.get_strategy().num_replicas_in_sync
    batch_size = max(1, min(batch_size, total) // replicas) * replicas
    steps = min(max(1, round(total * settings.round / batch_size)), total // batch_size)
    rounds = round(total / (steps * batch_size))
    weights = network.trainable_variables
    optimizer = build(weights, epochs * rounds * steps, settings.rates)
    fit = _compiled_fit(network, optimizer)
    warps = fields(tf.constant([seed, -1]), settings.distortion)
    pixels = tf.constant(images.images.reshape(-1, SIDE, SIDE, CHANNELS))
    labels = tf.constant(images.labels, tf.int32)

    def one_round(key: tf.Tensor, losses: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        choice_seed, distortion_seed = tf.unstack(tf.random.split(key, 2))
        chosen = _hardest(losses, steps * batch_size, choice_seed, settings)
        bent = distort(tf.gather(pixels, chosen), warps, distortion_seed, settings.distortion)
        shape = [steps, replicas, batch_size // replicas]
        seen = fit(tf.reshape(bent, [*shape, *SHAPE]), tf.reshape(tf.gather(labels, chosen), shape))
        losses = tf.tensor_scatter_nd_update(losses, chosen[:, tf.newaxis], tf.reshape(seen, [-1]))
        return tf.reduce_mean(seen), losses

    compiled_round = tf.function(one_round, autograph=False)
    # What a network loses that knows nothing, until an image is seen.
    losses = tf.fill([total], tf.math.log(float(len(CLASSES))))
    for epoch in range(epochs):
        means = []
        for number in range(epoch * rounds, (epoch + 1) * rounds):
            mean, losses = compiled_round(tf.constant([seed, number]), losses)
            means.append(mean)
        if epoch == epochs - 1:
            optimizer.finalize_variable_values(weights)
        yield float(np.mean(means))


def _compiled_fit(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Fit:
    """A function that takes steps and returns each image's loss.

    It takes images uint8 [steps, replicas, batch, *SHAPE] and labels int32 [steps, replicas, batch]
    and returns float32 [steps, replicas, batch]. Each replica has its part of the batch; the
    optimizer adds up their gradients.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    weights = network.trainable_variables

    def fit(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def on_replica(step: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            pixels = tf.cast(images[step, replica], tf.float32) / WHITE
            with tf.GradientTape() as tape:
                answers = network(pixels, training=True)
                loss = keras.losses.sparse_categorical_crossentropy(labels[step, replica], answers)
                share = tf.reduce_mean(loss) / replicas
            optimizer.apply(tape.gradient(share, weights))
            return loss

        def one_step(step: tf.Tensor, losses: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seen = strategy.experimental_local_results(strategy.run(on_replica, [step]))
            return step + 1, tf.tensor_scatter_nd_update(losses, [[step]], tf.stack([seen]))

        _, losses = tf.while_loop(
            lambda step, _: step < labels.shape[0],
            one_step,
            [tf.constant(0), tf.zeros(labels.shape)],
        )
        return losses

    # XLA compiles for one device.
    compiled: Fit = tf.function(fit, autograph=False, jit_compile=replicas == 1)
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
