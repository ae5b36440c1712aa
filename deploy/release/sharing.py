"""Who is answered by the candidate: what the gateway reads as `canary.config`.

    5 mnist 2
    alice candidate
    bob stable

The share in percent, the model and its version, and the side of each key that there was then. By
chance alone a few keys would seldom come near the share; so they are put in an order of their own
and the first of them are taken. Callers without such a key fall to a side by chance, each to the
same every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def text(model: str, version: int, percent: float, names: Sequence[str]) -> str:
    """What to write.

    The order of the names hangs on model and version: as the share of a canary grows, nobody goes
    back to the stable side, and another canary tries others first.

    Args:
        model: its name.
        version: that some callers are sent to.
        percent: more than 0 and less than 100.
        names: of the keys.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{model} {version} {name}".encode()).digest()

    count = round(len(names) * percent / 100)
    first = {*sorted(names, key=place)[:count]}
    lines = [f"{name} {'candidate' if name in first else 'stable'}" for name in sorted(names)]
    return "".join(f"{line}\n" for line in [f"{percent:g} {model} {version}", *lines])


def tried(text: str) -> tuple[str, int]:
    """The model, and the version of it that some callers are sent to, of such a text."""
    _, model, version = text.split("\n", 1)[0].split()
    return model, int(version)
