"""Ask a model from the command line.

Exit status: 0 done, 1 a call failed, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import io
import sys

try:
    from tfserving_client.command.main import main
except KeyboardInterrupt:
    sys.exit(130)


def run() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars, in a terminal that has none
    sys.exit(main())


if __name__ == "__main__":
    run()
