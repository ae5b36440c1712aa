"""Digits and bars as terminal text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_INK = 90  # a pixel at least this bright is a dot
# Unicode's braille patterns: the bit of each of a character's 4 × 2 dots.
_BRAILLE, _DOTS = 0x2800, np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def draw(image: NDArray[np.uint8]) -> list[str]:
    """Draw one digit, uint8 (28, 28), as 7 lines of 14 characters, a dot for each pixel of ink."""
    dots = (image >= _INK).reshape(7, 4, 14, 2)
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
