"""Whether images are as MNIST's: white ink on black, 0..255, upright. Seen before any training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.digits.data import sample
from export.digits.subject import AS_MNIST, SIDE
from export.errors import InputError

Floats = NDArray[np.float64]

_BORDER = np.pad(np.zeros((SIDE - 2, SIDE - 2), bool), 1, constant_values=True)
_PAPER = 0.75  # of an image's border lighter than middle grey: noise never is
_MOST_LIGHT = 0.02  # of the images; as many may be exceptions
_LEAST_INK = 128  # what at least the strongest pixel of all reaches
# How much likeness to MNIST is evidence, and how much more of it in another orientation.
_LIKE, _MORE = 0.5, 0.1

# How images may lie, and what undoes it: whether to transpose, the steps down and across.
_TURNS = {
    "upright": (False, 1, 1),
    "mirrored": (False, 1, -1),
    "mirrored from top to bottom": (False, -1, 1),
    "upside down": (False, -1, -1),
    "transposed": (True, 1, 1),
    "turned a quarter to the left": (True, 1, -1),
    "turned a quarter to the right": (True, -1, 1),
    "transposed and upside down": (True, -1, -1),
}


def checked(images: NDArray[np.uint8], labels: NDArray[np.uint8], called: str) -> str:
    """What is found, in a few words.

    The mean image of each digit tells the orientation: of the eight ways to turn it, one is most
    like MNIST's. Images that show other things are like none, and are let pass.

    Args:
        images: uint8 [n, SIDE, SIDE].
        labels: uint8 [n].
        called: what a refusal calls the images.

    Raises:
        InputError: they are dark ink on light paper, faint, or not upright.
    """
    expected = "expected white ink on black, 0..255, upright, as in MNIST"
    light = (images[:, _BORDER] > 127).mean(axis=1) > _PAPER
    light &= images.min(axis=(1, 2)) < 128
    if light.mean() > _MOST_LIGHT:
        raise InputError(
            f"{called}: {light.sum():,} of {len(images):,} images are dark ink on light paper; "
            f"{expected}: save 255 - x"
        )
    if (strongest := int(images.max())) < _LEAST_INK:
        raise InputError(
            f"{called}: pixels lie in 0..{strongest}; {expected}"
            + (f": save {255 // strongest} * x" if strongest else "")
        )
    ground = images[:, _BORDER].mean()
    found = f"borders {ground:.0f} on average, pixels {images.min()}..{strongest}"
    if not AS_MNIST:
        return found
    likeness = _likeness(images, labels)
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] > _LIKE and likeness[best] - likeness["upright"] > _MORE:
        raise InputError(
            f"{called}: the digits are {best}: their likeness to MNIST is "
            f"{likeness['upright']:.2f}, and {likeness[best]:.2f} once corrected; {expected}: "
            f"save {_undoing(*_TURNS[best])}"
        )
    return f"{found}, likeness to MNIST {likeness['upright']:.2f} upright"


def _likeness(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, float]:
    """For each way to lie, the correlation of the digits' means with MNIST's once it is undone."""
    genuine = sample.read(("x_train", "y_train"))
    digits = np.unique(labels)
    want = _means(genuine["x_train"], genuine["y_train"], digits)
    mine = _means(images, labels, digits)
    return {name: _correlation(_turned(mine, *turn), want) for name, turn in _TURNS.items()}


def _turned(images: Floats, transpose: bool, down: int, across: int) -> Floats:
    return (images.transpose(0, 2, 1) if transpose else images)[:, ::down, ::across]


def _undoing(transpose: bool, down: int, across: int) -> str:
    """`_turned` as one types it."""
    steps = [f"::{step}" if step < 0 else ":" for step in (down, across)]
    turn = f"[:, {', '.join(steps)}]" if (down, across) != (1, 1) else ""
    return "x" + ".transpose(0, 2, 1)" * transpose + turn


def _means(
    images: NDArray[np.generic], labels: NDArray[np.generic], digits: NDArray[np.uint8]
) -> Floats:
    """How each digit's mean differs from that of all."""
    means = np.stack([images[labels == digit].mean(axis=0) for digit in digits])
    return np.asarray(means - means.mean(axis=0), float)


def _correlation(a: Floats, b: Floats) -> float:
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))
