"""From whatever a caller holds to the one tensor that a signature takes, or a clear refusal.

The server does not check shapes, so everything is checked here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfserving_client.call.arguments import shown, typed
from tfserving_client.digits import pictures
from tfserving_client.errors import InvalidInput, shortened
from tfserving_client.tensors.conversion import has_masked

_SHAPES = "(28, 28), (n, 28, 28), (n, 784), or these with a channel, (n, 28, 28, 1)"
_ONE = {(28, 28), (28, 28, 1), (784,)}  # shapes of one image
_EACH = {(28, 28), (28, 28, 1), (1, 28, 28), (784,)}  # of each of several
_BORDER = np.pad(np.zeros((26, 26), bool), 1, constant_values=True).ravel().nonzero()[0]
_PAPER = 0.75  # of the border's pixels lighter than middle grey: noise never is
_LEAST_INK = 20  # pixels of an image; MNIST's thinnest has 34


@dataclass(slots=True)
class Batch:
    """Images ready for one signature.

    Attributes:
        signature: the signature that takes this kind of input.
        alias: the name of its one input.
        values: uint8 (n, 28, 28), float32 (n, 784), or n encoded files.
    """

    signature: str
    alias: str
    values: NDArray[Any] | list[bytes]

    @property
    def inputs(self) -> dict[str, NDArray[Any] | list[bytes]]:
        """The signature's inputs by alias."""
        return {self.alias: self.values}

    def __len__(self) -> int:
        """The number of images n."""
        return len(self.values)


def prepare(images: Any) -> Batch:
    """Choose the signature by the kind of input, and check the values.

    Args:
        images: integers in 0..255 (white ink on black, as in MNIST), bools (ink is True) or floats
            in 0..1, as an array, nested lists or rows of pandas, of shape (28, 28), (784,),
            (n, 28, 28) or (n, 784), with or without a channel; or PNG or JPEG pictures of any
            size: a path, the file's bytes, a file opened for bytes, a PIL image, or a list, an
            array or a Series of these.

    Raises:
        InvalidInput: anything else, an empty batch, NaN, pixels out of range or all but black, dark
            ink on light paper in an array, an unreadable file.
    """
    try:
        return _prepare(images)
    except InvalidInput as error:
        raise shortened(error) from None
    except Exception as error:  # a caller's own object, or a broken PIL image, may raise anything
        raise InvalidInput(f"images, {typed(images)}, cannot be read: {shown(error)}") from error


def _prepare(images: Any) -> Batch:
    if isinstance(images, np.ndarray) and images.dtype.kind in "buif":
        return _pixels(images)
    if pictures.is_picture(images):
        return _encoded([images])
    if isinstance(images, Set):
        raise InvalidInput(
            f"images are {typed(images)}, which has no order for the answers; pass a list"
        )
    if isinstance(images, Iterator):
        raise InvalidInput(
            f"images are {typed(images)}; pass a list, or the whole to classify_many, "
            "which answers one item after the other"
        )
    if getattr(getattr(images, "dtype", None), "kind", "") in set("OSUT") and images.ndim == 1:
        images = images.tolist()  # an array or a Series of paths, of bytes, of images
    if isinstance(images, Sequence) and len(images) and pictures.is_picture(images[0]):
        return _encoded(images)
    return _pixels(images)


def _encoded(items: Sequence[Any]) -> Batch:
    files = [pictures.read(item, index) for index, item in enumerate(items)]
    return Batch("encoded", "image_bytes", files)


def _pixels(images: Any) -> Batch:
    try:
        array = np.asarray(images)
    except ValueError:
        raise InvalidInput(f"images differ in shape; expected one array of {_SHAPES}") from None
    if array.shape == ():
        raise InvalidInput(f"images are {typed(images)}; expected an array of {_SHAPES}")
    if isinstance(images, np.ndarray) and has_masked(images):
        raise InvalidInput("images have masked pixels; fill them first")
    if array.size == 0:
        raise InvalidInput(f"images of shape {array.shape} hold no image; expected {_SHAPES}")
    rows = array.reshape(-1, 784) if _is_known_shape(array.shape) else None
    if rows is None:
        raise InvalidInput(
            f"images have shape {array.shape}; expected {_SHAPES}{_hint(array.shape)}"
        )
    if array.dtype.kind == "b":
        return _bytes(np.where(rows, np.uint8(255), np.uint8(0)))
    if array.dtype.kind in "ui":
        if array.dtype != np.uint8:
            _check_range(rows, 255)
        return _bytes(rows.astype(np.uint8, copy=False))
    if array.dtype.kind == "f":
        _check_range(rows, 1)
        _check_strength(rows, 1)
        _check_paper(rows, 1)
        return Batch("predict_images", "images", rows.astype(np.float32, copy=False))
    raise InvalidInput(
        f"images have dtype {array.dtype}; expected integers in 0..255 or floats in 0..1"
    )


def _bytes(pixels: NDArray[np.uint8]) -> Batch:
    # Numpy's reductions take longer than all else that one digit takes; bytes tell the same sooner.
    first = pixels[0].tobytes()
    if not first.strip(b"\0\1"):  # no pixel of it is above 1
        _check_strength(pixels, 255)
    uppermost = first[:28] if len(pixels) == 1 else pixels[:, :28].tobytes()
    if not uppermost.isascii():  # a quarter of the border
        _check_paper(pixels, 255)
    return Batch("serving_default", "images", pixels.reshape(-1, 28, 28))


def _is_known_shape(shape: tuple[int, ...]) -> bool:
    return shape in _ONE or shape[1:] in _EACH


def _hint(shape: tuple[int, ...]) -> str:
    if shape[-1] == 785:
        return "; is one column of the 785 the label?"
    if shape[-1:] in {(3,), (4,)} and len(shape) in {3, 4}:
        return "; of a picture with colours pass the file, or a PIL image"
    return ""


def _check_range(rows: NDArray[Any], highest: int) -> None:
    low, high = rows.min(), rows.max()  # both are NaN where any pixel is
    if not (low >= 0 and high <= highest):
        hint = "; divide by 255 or pass integers" if 1 == highest < high <= 255 else ""
        raise InvalidInput(f"pixels lie in {low}..{high}; expected 0..{highest}{hint}")


def _check_strength(rows: NDArray[Any], white: int) -> None:
    """Refuse pixels that were divided once too often: they would be read as black."""
    strongest = rows.max()
    faint = 0 < strongest <= white / 255 and np.count_nonzero(rows) >= _LEAST_INK * len(rows)
    if faint and rows.min() == 0:
        hint = "multiply by 255, or pass floats" if white == 255 else "divided by 255 twice?"
        raise InvalidInput(
            f"pixels of dtype {rows.dtype} lie in 0..{strongest:.3g}; expected 0..{white}: {hint}"
        )


def _check_paper(rows: NDArray[Any], white: int) -> None:
    """Refuse dark ink on light paper, which would be read without complaint, and wrongly."""
    light_pixels = np.add.reduce(rows.take(_BORDER, axis=1) > white / 2, axis=1)
    light = light_pixels > _PAPER * len(_BORDER)
    if light.any() and (dark := light & (rows.min(axis=1) < white / 2)).any():
        raise InvalidInput(
            f"image {dark.argmax()} is dark ink on light paper; arrays are white ink on black, as "
            f"in MNIST: pass {white} - images, or the picture's file"
        )
