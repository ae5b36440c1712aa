"""Which way up a picture is to be seen, as cameras write it into a file's EXIF data."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF's tag
# Its value → how a camera that was held so stores an upright picture.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}
