"""Digits and bars as terminal text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHADES = np.array(list(" ░▒▓█"))
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def draw(image: NDArray[np.uint8]) -> list[str]:
    """Draw one digit, uint8 (28, 28), as 14 lines of 28 characters.

    A character is twice as high as wide, so each stands for two pixels, one above the other.
    """
    pairs = image.reshape(14, 2, 28).max(axis=1)
    shades = (pairs.astype(int) * (len(_SHADES) - 1) + 127) // 255
    return ["".join(row) for row in _SHADES[shades]]


def bar(share: float, width: int) -> str:
    """A bar of at most `width` characters for a share in 0..1, in eighths of a character."""
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + _EIGHTHS[rest].strip()).ljust(width)


def side_by_side(blocks: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Join blocks of equally many lines into lines."""
    return [gap.join(lines) for lines in zip(*blocks, strict=True)]
