"""Ctrl-C and SIGTERM: a run stops wherever it is and leaves nothing behind.

Python turns a signal into an exception in whatever line runs, and a library may swallow it there
or turn it into an exception of its own; so it is remembered, too.
"""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received = False


def listen() -> None:
    """From now on both signals raise KeyboardInterrupt."""
    global _received
    _received = False
    for number in _SIGNALS:
        signal.signal(number, _receive)


def received() -> bool:
    """Whether a signal came."""
    return _received


def last_chance() -> None:
    """Ignore signals from here on; raise KeyboardInterrupt if one came before."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if _received:
        raise KeyboardInterrupt


def _receive(_number: int, _frame: FrameType | None) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt
