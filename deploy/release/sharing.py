"""Which callers the candidate answers: `canary.config`, which the gateway reads.

    5 mnist 2
    alice candidate
    bob stable

First the share in percent, the model and its version; then the side of each existing key. Random
sides for a few keys would seldom be near the share, so the keys are ordered and the first ones are
taken. Callers without such a key get a random side, each always the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def text(model: str, version: int, percent: float, names: Sequence[str]) -> str:
    """The text of the file.

    The order of the names depends on model and version: when the share grows, no key goes back to
    the stable side, and another canary starts with other keys.

    Args:
        model: its name.
        version: of the candidate.
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
    """Model and version in such a text."""
    _, model, version = text.split("\n", 1)[0].split()
    return model, int(version)
