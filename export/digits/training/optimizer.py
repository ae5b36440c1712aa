"""Muon for the large matrices, Adam for all other weights.

The gradient of a matrix is large in a few directions and small in most. Muon replaces the momentum
by the nearest orthogonal matrix, so that a step moves equally far in every direction, also in those
that matter to few images.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Keras
scales it by 0.2 √(larger side) as in J. Liu et al., "Muon is Scalable for LLM Training", 2025
(arXiv 2502.16982), so that the entries of a step are about as large as Adam's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras


@dataclass(frozen=True, slots=True)
class Rates:
    """How large the steps are, and how exact; shares are of all steps."""

    peak: float = 0.01  # of the learning rate
    adam: float = 1.0  # Adam's rate, as a multiple of Muon's
    warmup: float = 0.05  # share in which the rate rises from 0; from there it falls as a cosine
    last: float = 0.05  # share of the peak left in the end, so that there are steps to average
    averaged: float = 0.15  # share that the weights' moving average reaches back over
    decay: float = 0.05  # share of every weight that is lost at each step, times the rate
    newton_schulz: int = 5  # iterations that bring Muon's steps near to orthogonal


def build(weights: list[keras.Variable], steps: int, rates: Rates) -> keras.optimizers.Optimizer:
    """An optimizer for so many steps on these weights.

    Muon takes every matrix but the last, which ends in the classes; Adam takes that and all other
    shapes. `finalize_variable_values` of the optimizer sets the weights to their moving average.
    """
    warmup_steps = int(rates.warmup * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=steps - warmup_steps,
        alpha=rates.last,
        warmup_target=rates.peak,
        warmup_steps=warmup_steps,
    )
    matrices = [weight.path for weight in weights if len(weight.shape) == 2]
    optimizer = keras.optimizers.Muon(
        rate,
        adam_lr_ratio=rates.adam,
        ns_steps=rates.newton_schulz,
        exclude_layers=[f"^{re.escape(path)}$" for path in matrices[-1:]],
        weight_decay=rates.decay,
        adam_weight_decay=rates.decay,
        use_ema=True,
        ema_momentum=1.0 - 1.0 / max(1.0, rates.averaged * steps),
    )
    optimizer.build(weights)
    return optimizer
