"""What a person sees while it works: lines on standard error.

Standard output stays clean for the result, which other programs read.
"""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """Print one line that must not be overlooked."""
    say(f"\n  !!  {line}\n")
