"""What the images show and how they are stored: the one place that says it.

Other images or other classes are another line here; what is learnt from MNIST's digits alone (how
they lie, how thick their strokes are) is left out by itself where it does not apply.
"""

from __future__ import annotations

SIDE, CHANNELS = 28, 1  # pixels; channels: 1, white ink on black, or 3, colour
CLASSES: tuple[str, ...] = tuple("0123456789")
WHITE = 255  # pixels are uint8, 0..WHITE

SHAPE: tuple[int, ...] = (SIDE, SIDE) if CHANNELS == 1 else (SIDE, SIDE, CHANNELS)
PIXELS = SIDE * SIDE * CHANNELS
AS_MNIST = SHAPE == (28, 28) and tuple("0123456789") == CLASSES
