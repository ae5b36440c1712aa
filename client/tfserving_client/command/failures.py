"""What failed, as one line on standard error."""

from __future__ import annotations

import sys


def line(error: object) -> str:
    """The error as the command says it, without line ends."""
    return f"python -m tfserving_client: {' '.join(str(error).split())}"


def fail(error: object, status: int) -> int:
    """Say what failed; the exit status that was given."""
    print(line(error), file=sys.stderr)
    return status
