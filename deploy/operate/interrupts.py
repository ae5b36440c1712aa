"""Ctrl-C and SIGTERM: each ends a command cleanly, and none is lost.

Python drops what is raised while it finalizes an object
(https://docs.python.org/3/reference/datamodel.html#object.__del__), and every answer over HTTP is
finalized in Python. So an interrupt is remembered as well, and raised again at the next `pause`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

_SIGNALS = signal.SIGINT, signal.SIGTERM
_pending = False


def listen() -> None:
    """Make both signals raise KeyboardInterrupt; one that the shell ignores stays ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    _remember(True)
    raise KeyboardInterrupt


def _remember(pending: bool) -> None:
    global _pending  # a signal handler cannot take a lock
    _pending = pending


def pause(seconds: float) -> None:
    """Sleep between two checks of something.

    Raises:
        KeyboardInterrupt: a signal came now, or was lost since the last pause.
    """
    if not _pending:
        time.sleep(seconds)
    if _pending:
        raise KeyboardInterrupt


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore both signals, to clean up; one that came before counts as handled."""
    handlers = [signal.signal(number, signal.SIG_IGN) for number in _SIGNALS]
    _remember(False)
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
