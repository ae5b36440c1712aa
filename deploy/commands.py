"""`python -m deploy`: run models behind a gateway, and release their versions.

Exit status: 0 done (`status`: all healthy), 1 refused or failed (`status`: something is unhealthy),
2 bad usage or input, 3 nothing runs (`status` only), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from deploy import environment
from deploy.operate import commands as operate
from deploy.operate import interrupts
from deploy.operate.command_line import LOOKS, say
from deploy.operate.errors import InputError, Refused
from deploy.operate.stack import settings
from deploy.release import commands as release
from deploy.release import trials


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        options = _parser().parse_args(arguments)
        interrupts.listen()
        settings.load()
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        return _fail(error, 2)
    except Refused as error:
        return _fail(error, 1)
    except ModuleNotFoundError as error:
        return _fail(environment.told(error, "make setup-operate"), 2)
    except BrokenPipeError:
        # `| head` has seen enough; the interpreter's own flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'the answer'}: {error.strerror or error}", 1)
    return status


def _fail(error: object, status: int) -> int:
    say(f"python -m deploy: {' '.join(str(error).split())}")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy",
        description="Run models behind a gateway, and release their versions.",
        **LOOKS,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    operate.add_to(commands)
    release.add_to(commands)
    trials.add_to(commands)
    return parser
