"""The sample of MNIST that ships here, so that there are digits to train on without a network.

Its file is an `.npz` of MNIST's four arrays with every fifth image, in 16 shades of grey, two
pixels to a byte. `make_sample.py` makes it; its licence stands in `mnist_sample.LICENSE.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import npz

PATH = Path(__file__).with_name("mnist_sample.npz")
NOTE = "a sample of MNIST, 12,000 of its training images and 2,000 of its test images"

_EVERY = 5  # the first of so many images: both of MNIST's halves of writers are in it alike

_STEP = 255 // 15  # between two of the 16 shades


def read(keys: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    """MNIST's arrays of these names: images uint8 [n, 28, 28], labels uint8 [n].

    Raises:
        InputError: the file is damaged.
    """
    with PATH.open("rb") as file:
        arrays = npz.read(file, str(PATH), keys)
    return {
        key: _unpacked(array) if key.startswith("x_") else array for key, array in arrays.items()
    }


def write(path: Path, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write every fifth of these images and labels of MNIST."""
    chosen = {key: array[::_EVERY] for key, array in arrays.items()}
    packed = {
        key: _packed(array) if key.startswith("x_") else array for key, array in chosen.items()
    }
    np.savez_compressed(path, allow_pickle=False, **packed)


def _packed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shades = np.rint(images / _STEP).astype(np.uint8)
    return np.asarray(shades[..., ::2] << 4 | shades[..., 1::2], np.uint8)


def _unpacked(packed: NDArray[np.generic]) -> NDArray[np.uint8]:
    pairs = packed.astype(np.uint8)
    shades = np.stack([pairs >> 4, pairs & 15], axis=-1).astype(np.uint8)
    return (shades * np.uint8(_STEP)).reshape(*pairs.shape[:-1], 2 * pairs.shape[-1])
