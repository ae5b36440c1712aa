"""The commands that release a version of a model, and roll back."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deploy.operate.command_line import (
    command,
    count,
    on_cluster,
    percent,
    say,
    seconds,
    version,
)

if TYPE_CHECKING:
    from deploy.release.place import Place

_GRACE, _EVERY = 300, 600  # seconds


def add_to(commands: Any) -> None:
    """Add the commands of this room to those of the command line."""
    promote = command(
        commands, "promote", _promote, "make a version live, with a check at each step"
    )
    which = promote.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "version", nargs="?", type=version, metavar="N", help="the number of the version"
    )
    which.add_argument(
        "--always-newest",
        action="store_true",
        help="end release control: a new version is live as soon as it appears",
    )
    rollback = command(
        commands, "rollback", _rollback, "make the version live that was live before"
    )
    canary = command(commands, "canary", _canary, "send a share of the callers to a version")
    canary.add_argument("version", type=version, metavar="N", help="the number of the version")
    share = canary.add_mutually_exclusive_group(required=True)
    share.add_argument("--percent", type=percent, metavar="P", help="share of the callers")
    share.add_argument(
        "--steps",
        type=_steps,
        metavar="P,P,…",
        help="shares in percent, one after the other while the figures are good, then live",
    )
    canary.add_argument(
        "--every", type=seconds, default=_EVERY, metavar="T", help="length of each step (10m)"
    )
    canary.add_argument(
        "--prometheus",
        metavar="URL",
        help="the Prometheus whose figures judge the steps (http://localhost:9090)",
    )
    for promoting in (promote, canary):
        promoting.add_argument(
            "--grace",
            type=seconds,
            default=_GRACE,
            metavar="T",
            help="how long the old version stays loaded (5m)",
        )
        promoting.add_argument(
            "--without-golden", action="store_true", help="release a version without golden answers"
        )
    for changing in (promote, rollback, canary):
        changing.add_argument(
            "--why", default="", metavar="TEXT", help="the reason, for the history"
        )
        changing.add_argument(
            "--timeout",
            type=count,
            default=180,
            metavar="S",
            help="seconds in which the servers have to finish a step (180)",
        )
    history = command(
        commands, "history", _history, "show who released what, when, why, and the outcome"
    )
    history.add_argument("--json", action="store_true", help="print JSON, for programs")
    for each in (promote, rollback, canary, history):
        each.add_argument("--name", metavar="MODEL", help="the model (default: the only one)")
        on_cluster(each)


def _steps(text: str) -> list[float]:
    return [percent(each) for each in text.split(",")]


def _canary(options: argparse.Namespace) -> int:
    from deploy.release import canary, promotion

    number = options.version
    checked: Any = {"why": options.why, "without_golden": options.without_golden}
    with _place(options) as place:
        if options.percent:
            canary.begin(place, number, options.percent, **checked)
            print(f"{place.name}: {options.percent:g} % of the callers are sent to {number}")
            return 0
        canary.climb(place, number, options.steps, options.every, **checked)
        promotion.promote(place, number, grace=options.grace, **checked)
        print(f"{place.name}: {number} is live")
    return 0


def _promote(options: argparse.Namespace) -> int:
    from deploy.release import promotion

    with _place(options) as place:
        if options.always_newest:
            promotion.follow_newest(place, why=options.why)
            print(f"{place.name}: the newest version is always live")
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
        later = "" if place.running() else f" as soon as `{place.start_servers}` starts a server"
    print(f"{place.name}: {number} is live{later}")
    return 0


def _history(options: argparse.Namespace) -> int:
    from deploy.operate import cluster
    from deploy.release import history

    log: history.Log = history.Machine()
    if kubectl := cluster.chosen(options):
        from deploy.release.cluster import Releases

        log = Releases(kubectl)
    entries = history.read(log, options.name)
    if options.json:
        print(history.as_json(entries))
    else:
        print("\n".join(history.lines(entries)) if entries else "no release yet")
    return 0


@contextlib.contextmanager
def _place(options: argparse.Namespace) -> Iterator[Place]:
    """The model that is meant, with the servers that serve it, if there are any."""
    from deploy.operate import cluster
    from deploy.operate.models import on_disk

    default = f"http://localhost:{os.environ.get('PROMETHEUS_PORT') or 9090}"
    prometheus = getattr(options, "prometheus", None) or default
    with contextlib.ExitStack() as opened:
        place: Place
        if kubectl := cluster.chosen(options):
            from deploy.release.cluster import Cluster

            place = Cluster("", say, options.timeout, prometheus, kubectl)
            opened.callback(place.close)
        else:
            from deploy.operate.stack import engine
            from deploy.release.machine import Machine

            client = opened.enter_context(engine.connect_if_any(say))
            project = engine.Compose().config["name"] if client else ""
            place = Machine("", say, options.timeout, prometheus, client, project)
        place.name = on_disk.meant(options.name, (one.name for one in place.models()))
        yield place
