"""What all commands of `python -m deploy` share: parsing of arguments, and progress lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

Run = Callable[[argparse.Namespace], int]  # returns the exit status

_EXAMPLES = """examples:
  python -m deploy up --scale 3 --monitoring
  KEY=$(python -m deploy keys create alice)
  python -m deploy models add price
  python -m deploy promote 4 --why "trained on November's data"
  python -m deploy rollback
  python -m deploy certificates --host digits.example.org --host 10.0.0.7
  python -m deploy status && python -m deploy down"""
LOOKS: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}


def command(within: Any, name: str, run: Run | None, summary: str) -> argparse.ArgumentParser:
    """A parser for one command of those `within`; `run` does its work."""
    parser: argparse.ArgumentParser = within.add_parser(
        name, help=summary, description=summary, **LOOKS
    )
    parser.set_defaults(run=run)
    return parser


def on_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options of a cluster to a command; `deploy.operate.cluster` reads them."""
    group = parser.add_argument_group("Kubernetes")
    group.add_argument(
        "--kubernetes", action="store_true", help="use the cluster of kubectl, not this machine"
    )
    group.add_argument(
        "--namespace", metavar="NS", help="namespace of the bundle (default: the context's)"
    )
    group.add_argument(
        "--context", metavar="C", help="context of kubectl (default: the current one)"
    )


def count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def version(text: str) -> int:
    """A version number."""
    if not (text.isdecimal() and len(text) < 20 and 0 < int(text) < 1 << 63):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a version number, such as 2")
    return int(text)


def percent(text: str) -> float:
    """A share in percent."""
    try:
        found = float(text.removesuffix("%"))
    except ValueError:
        found = 0.0
    if not 0.01 <= found <= 99:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a percentage from 0.01 to 99")
    return found


def seconds(text: str) -> int:
    """A duration in seconds, from `90`, `90s`, `10m` or `1h`."""
    number, unit = text.rstrip("smh"), text[-1:]
    if not (number.isdecimal() and len(text) - len(number) < 2 and int(number) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration, such as 90s, 10m or 1h")
    return int(number) * {"m": 60, "h": 3600}.get(unit, 1)


def say(line: object) -> None:
    """Write a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)
