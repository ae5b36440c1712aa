"""How far a long command is, on standard error."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Self, TextIO

_PATIENCE, _TICK = 1.0, 0.1  # seconds until progress is shown, and between two looks at it


class Progress:
    """A line on standard error that tells how far the work is, if that is a terminal.

    Args:
        text: seconds since the start, more than 0 → the line.
        at_once: show it from the start, not only when the work takes long.
    """

    def __init__(self, text: Callable[[float], str], *, at_once: bool = False) -> None:
        self._text, self._patience = text, 0.0 if at_once else _PATIENCE
        self._start = time.monotonic()
        self._shown = False
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            if not self._patience:
                self._draw()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._shown:
            self._draw("\n")

    def print(self, line: str, file: TextIO | None = None) -> None:
        """Print a line without tearing the progress."""
        with self._lock:
            torn = self._shown and (file or sys.stdout).isatty()
            if torn:
                print(end="\r\033[K", file=sys.stderr, flush=True)
            print(line, file=file)
            if torn:
                self._draw()

    def _run(self) -> None:
        self._stop.wait(self._patience)
        while not self._stop.wait(_TICK):
            with self._lock:
                self._draw()

    def _draw(self, end: str = "") -> None:
        text = self._text(max(time.monotonic() - self._start, _TICK))
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        print(end=f"\r{text[: columns - 1]}\033[K{end}", file=sys.stderr, flush=True)
        self._shown = True
