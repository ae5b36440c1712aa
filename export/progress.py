"""What a person sees while it works: lines on standard error.

Standard output stays clean for the result, which other programs read.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def say(line: str) -> None:
    """Print one line of progress; a run goes on even if the line cannot be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """Print one line that must not be overlooked."""
    say(f"\n  !!  {line}\n")


@contextlib.contextmanager
def without_native_notes() -> Iterator[None]:
    """Keep what TensorFlow's import writes, whatever the log level is, from between these lines.

    TF_CPP_MIN_LOG_LEVEL=0 shows it.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
