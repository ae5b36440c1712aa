"""The commands that release a version of a model, and go back."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deploy.operate.command_line import command, count, percent, say, seconds, version

if TYPE_CHECKING:
    from deploy.release.place import Place

_GRACE, _EVERY = 300, 600  # seconds


def add_to(commands: Any) -> None:
    """Add the commands of this room to those of the command line."""
    promote = command(commands, "promote", _promote, "make a version live, checked step by step")
    which = promote.add_mutually_exclusive_group(required=True)
    which.add_argument("version", nargs="?", type=version, metavar="N", help="its number")
    which.add_argument(
        "--always-newest",
        action="store_true",
        help="end release control: whatever version appears is live at once",
    )
    promote.add_argument(
        "--without-golden", action="store_true", help="even if nothing says what it must answer"
    )
    rollback = command(commands, "rollback", _rollback, "make the version of before live again")
    canary = command(commands, "canary", _canary, "send some of the callers to a version")
    canary.add_argument("version", type=version, metavar="N", help="its number")
    share = canary.add_mutually_exclusive_group(required=True)
    share.add_argument("--percent", type=percent, metavar="P", help="of the callers, from now on")
    share.add_argument(
        "--steps",
        type=_steps,
        metavar="P,P,…",
        help="one share after the other, as long as it does well, and then live",
    )
    canary.add_argument(
        "--every", type=seconds, default=_EVERY, metavar="T", help="how long each step is (10m)"
    )
    for promoting in (promote, canary):
        promoting.add_argument(
            "--grace",
            type=seconds,
            default=_GRACE,
            metavar="T",
            help="how long the version of before stays loaded (5m)",
        )
    for changing in (promote, rollback, canary):
        changing.add_argument("--why", default="", metavar="TEXT", help="for the history")
        changing.add_argument(
            "--timeout",
            type=count,
            default=180,
            metavar="S",
            help="seconds that the servers have for a step (180)",
        )
    history = command(
        commands, "history", _history, "who released what, when and why, and how it went"
    )
    history.add_argument("--json", action="store_true", help="for programs")
    for each in (promote, rollback, canary, history):
        each.add_argument("--name", metavar="MODEL", help="the model (the only one)")


def _steps(text: str) -> list[float]:
    return [percent(each) for each in text.split(",")]


def _canary(options: argparse.Namespace) -> int:
    from deploy.release import canary, promotion

    number = options.version
    with _place(options) as place:
        if options.percent:
            canary.begin(place, number, options.percent, why=options.why)
            print(f"{place.name}: {options.percent:g} % of the callers are sent to {number}")
            return 0
        canary.climb(place, number, options.steps, options.every, why=options.why)
        promotion.promote(place, number, why=options.why, grace=options.grace)
        print(f"{place.name}: {number} is live")
    return 0


def _promote(options: argparse.Namespace) -> int:
    from deploy.release import promotion

    with _place(options) as place:
        if options.always_newest:
            promotion.follow_newest(place, why=options.why)
            print(f"{place.name}: the newest version is live, whichever it is")
        else:
            number = options.version
            promotion.promote(
                place,
                number,
                why=options.why,
                grace=options.grace,
                without_golden=options.without_golden,
            )
            print(f"{place.name}: {number} is live")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from deploy.release import promotion

    with _place(options) as place:
        number = promotion.rollback(place, why=options.why)
        runs = bool(place.running())
    later = "" if runs else " as soon as `python -m deploy up` starts a server"
    print(f"{place.name}: {number} is live{later}")
    return 0


def _history(options: argparse.Namespace) -> int:
    from deploy.release import history

    entries = history.read(options.name)
    if options.json:
        print(history.as_json(entries))
    else:
        print("\n".join(history.lines(entries)) if entries else "nothing was released yet")
    return 0


@contextlib.contextmanager
def _place(options: argparse.Namespace) -> Iterator[Place]:
    """The model that is meant, and the engine on which its servers run, if one answers."""
    from deploy.operate.models import on_disk
    from deploy.operate.stack import engine
    from deploy.release.place import Place

    name = on_disk.meant(options.name)
    with engine.connect_if_any(say) as client:
        project = engine.Compose().config["name"] if client else ""
        yield Place(name, client, project, say, options.timeout)
