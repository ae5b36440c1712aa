"""How figures are written: as SVG, next to this file."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent


def save(figure: Figure, name: str) -> None:
    """Write a figure next to this file and say where.

    The same figure gives the same bytes, so that drawing it again changes nothing.
    """
    with mpl.rc_context({"svg.hashsalt": "digits-serving"}):
        figure.savefig(FOLDER / name, metadata={"Date": None})
    print(FOLDER / name)
