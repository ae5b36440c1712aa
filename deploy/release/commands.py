"""The commands that release a version of a model, and go back."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.operate.command_line import command, count, say
from deploy.operate.errors import InputError, Refused

if TYPE_CHECKING:
    from deploy.release.place import Place

_GRACE, _EVERY = 300, 600  # seconds


def add_to(commands: Any) -> None:
    """Add the commands of this room to those of the command line."""
    verify = command(commands, "verify", _verify, "prove a version on a server of its own")
    verify.add_argument("version", nargs="?", type=_number, metavar="N", help="(the newest)")
    verify.add_argument("--name", help="the model's (the first that is configured)")
    verify.add_argument(
        "--path", type=Path, metavar="FOLDER", help="the version in this folder, whatever its name"
    )
    verify.add_argument(
        "--without-golden", action="store_true", help="pass one that has no golden answers, too"
    )
    verify.add_argument(
        "--timeout", type=count, default=180, metavar="S", help="seconds to become well (180)"
    )
    verify.add_argument("--json", action="store_true", help="for programs")
    compare = command(commands, "compare", _compare, "ask two versions the same")
    compare.add_argument("version", type=_number, metavar="N", help="the candidate")
    compare.add_argument(
        "other",
        nargs="?",
        type=_number,
        metavar="M",
        help="(what is live, else the one below N)",
    )
    compare.add_argument("--name", help="the model's (the first that is configured)")
    compare.add_argument(
        "--requests",
        type=Path,
        metavar="FILE.npz",
        help="arrays by input name (N's own golden inputs)",
    )
    compare.add_argument("--signature", default="serving_default", help="(serving_default)")
    compare.add_argument(
        "--agreement",
        type=_percent,
        default=98.0,
        metavar="P",
        help="percent of the rows that must not differ (98)",
    )
    compare.add_argument("--json", action="store_true", help="for programs")
    promote = command(commands, "promote", _promote, "make a version live, checked step by step")
    which = promote.add_mutually_exclusive_group(required=True)
    which.add_argument("version", nargs="?", type=_number, metavar="N", help="its number")
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
    canary.add_argument("version", type=_number, metavar="N", help="its number")
    share = canary.add_mutually_exclusive_group(required=True)
    share.add_argument("--percent", type=_percent, metavar="P", help="of the callers, from now on")
    share.add_argument(
        "--steps",
        type=_steps,
        metavar="P,P,…",
        help="one share after the other, as long as it does well, and then live",
    )
    canary.add_argument(
        "--every", type=_seconds, default=_EVERY, metavar="T", help="how long each step is (10m)"
    )
    for promoting in (promote, canary):
        promoting.add_argument(
            "--grace",
            type=_seconds,
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
    tune = command(commands, "tune", _tune, "find the batching that answers most, if any does")
    tune.add_argument("--name", help="the model's (the first that is configured)")
    tune.add_argument(
        "--p99-ms", type=_milliseconds, default=50.0, metavar="X", help="the limit (50)"
    )
    tune.add_argument("--seconds", type=count, default=2, metavar="S", help="of each rate (2)")
    tune.add_argument(
        "--output", type=Path, metavar="FILE", help="write the parameters there, and print none"
    )
    history = command(
        commands, "history", _history, "who released what, when and why, and how it went"
    )
    history.add_argument("--json", action="store_true", help="for programs")
    for each in (promote, rollback, canary, history):
        each.add_argument("--name", metavar="MODEL", help="the model (the only one)")


def _number(text: str) -> int:
    if not (text.isdecimal() and len(text) < 20 and 0 < int(text) < 1 << 63):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a version's number")
    return int(text)


def _milliseconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected milliseconds, at most 10,000")
    return found


def _seconds(text: str) -> int:
    number, unit = text.rstrip("smh"), text[-1:]
    if not (number.isdecimal() and len(text) - len(number) < 2 and int(number) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, or as 90s, 10m, 1h")
    return int(number) * {"m": 60, "h": 3600}.get(unit, 1)


def _percent(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0
    if not 0.01 <= percent <= 99:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share from 0.01 to 99")
    return percent


def _steps(text: str) -> list[float]:
    return [_percent(each) for each in text.split(",")]


def _verify(options: argparse.Namespace) -> int:
    from deploy import runner
    from deploy.operate.models import on_disk
    from deploy.release import verify

    if options.path and options.version:
        raise InputError("N and --path are given; expected one of them")
    name, number, folder = (
        on_disk.at(options.path, options.name)
        if options.path
        else on_disk.version(options.name, options.version)
    )
    try:
        report = verify.verify(
            folder,
            name,
            number,
            without_golden=options.without_golden,
            timeout=options.timeout,
        )
    except runner.NoServer as error:
        raise InputError(str(error)) from error
    print(report.as_json() if options.json else "\n".join(report.lines()))
    if report.problems:
        raise Refused(f"{folder} is refused: {report.problems[0]}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from deploy import runner
    from deploy.operate.models import on_disk
    from deploy.release import compare, golden, place
    from deploy.release.errors import Unreadable

    name, number, folder = on_disk.version(options.name, options.version)
    other = options.other or place.live_or_below(name, number)
    folders = {number: folder, other: on_disk.version(name, other)[2]}
    if options.requests:
        inputs = compare.read(options.requests)
    else:
        try:
            inputs = dict(golden.read(folder)[options.signature].inputs)
        except (Unreadable, KeyError) as error:
            raise InputError(f"{error}: no requests; --requests names a file of some") from None
    try:
        found = compare.compare(
            name,
            folders,
            inputs,
            signature=options.signature,
            agreement=options.agreement / 100,
        )
    except runner.NoServer as error:
        raise InputError(str(error)) from error
    print(found.as_json() if options.json else "\n".join(found.lines(inputs)))
    if found.problems:
        raise Refused(f"version {number} does not do as {other}: {found.problems[0]}")
    return 0


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


def _tune(options: argparse.Namespace) -> int:
    from deploy import runner
    from deploy.operate.models import on_disk
    from deploy.release import tune, tune_report
    from deploy.release.errors import Unreadable
    from tfserving_client import ServingError

    output = options.output
    name, _, folder = on_disk.version(options.name, None)
    if output and (output.is_dir() or not os.access(output.resolve().parent, os.W_OK)):
        raise InputError(f"{output} cannot be written")  # rather now than after minutes
    say(f"tune    {folder}, on {runner.kind()}")
    try:
        tuner = tune.Tuner(folder, name, options.p99_ms, options.seconds, say)
        settings, use = tuner.run()
    except (Unreadable, runner.NoServer) as error:
        raise InputError(str(error)) from error
    except (runner.StartFailed, ServingError) as error:
        raise Refused(str(error)) from error
    limited = tuner.is_generator_limit
    for line in tune_report.lines(settings, use, options.p99_ms, is_generator_limit=limited):
        print(line)
    if output and use.text:
        output.write_text(use.text)
        say(f"tune    {output} is written; it is for --batching_parameters_file")
    elif output:
        say(f"tune    {output} is not written: there is nothing better than no batching")
    elif use.text:
        print(f"\n{use.text}", end="")
    return 0


def _history(options: argparse.Namespace) -> int:
    from deploy.release import history

    entries = history.read(options.name)
    print(history.as_json(entries) if options.json else "\n".join(history.lines(entries)))
    return 0


@contextlib.contextmanager
def _place(options: argparse.Namespace) -> Iterator[Place]:
    """The model that is meant, and the engine on which its servers run, if one answers."""
    from deploy.operate.stack import engine, served
    from deploy.release.place import Place

    name = options.name
    if name is None:
        names = [one.name for one in served.models()]
        if len(names) != 1:
            raise InputError(
                f"there are {len(names)} models: {', '.join(names)}; --name says which"
            )
        (name,) = names
    with engine.connect_if_any(say) as client:
        project = engine.Compose().config["name"] if client else ""
        yield Place(name, client, project, say, options.timeout)
