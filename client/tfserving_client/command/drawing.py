"""Digits and bars, as terminal text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

_INK = 90  # a pixel at least this bright is a dot
# Unicode's braille patterns: the bit of each of a character's 4 × 2 dots.
_BRAILLE, _DOTS = 0x2800, np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SIDE = 40  # pixels of a picture in the terminal: ten lines, as there are ten digits


def draw(image: NDArray[np.uint8]) -> list[str]:
    """Draw an image as lines of characters, a dot for each pixel of ink.

    Args:
        image: uint8 (h, w), h a multiple of 4 and w of 2; a digit, (28, 28), becomes 7 lines of 14.
    """
    height, width = image.shape
    dots = (image >= _INK).reshape(height // 4, 4, width // 2, 2)
    patterns = np.einsum("rycx,yx->rc", dots, _DOTS) + _BRAILLE
    return ["".join(map(chr, row)) for row in patterns]


def bar(share: float, width: int) -> str:
    """A bar of at most `width` characters for a share in 0..1, in eighths of a character."""
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + _EIGHTHS[rest].strip()).ljust(width)


def side_by_side(blocks: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Join blocks of equally many lines into lines."""
    return [gap.join(lines) for lines in zip(*blocks, strict=True)]


def picture(source: str | bytes, probabilities: NDArray[np.float32]) -> list[str]:
    """Draw a PNG or JPEG, a path or bytes, with a bar for each digit's probability, float (10,).

    Nothing is drawn without Pillow, or of what Pillow cannot read.
    """
    try:
        from PIL import Image, ImageOps

        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            inked = ImageOps.exif_transpose(file).convert("RGBA")
        grey = Image.alpha_composite(Image.new("RGBA", inked.size, "white"), inked).convert("L")
        if np.median(np.asarray(grey)) > 127:  # on paper
            grey = ImageOps.invert(grey)
        small = ImageOps.autocontrast(ImageOps.pad(grey, (_SIDE, _SIDE)))
    except Exception:  # Pillow's own are many, and a drawing is only a courtesy
        return []
    bars = [f"{digit} {bar(p, 20)} {p:6.1%}" for digit, p in enumerate(probabilities)]
    return side_by_side([draw(np.asarray(small)), bars])
