"""The commands that try a version out on servers of their own, where no caller is answered."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.operate.command_line import command, count, percent, say, version
from deploy.operate.errors import InputError, Refused


def add_to(commands: Any) -> None:
    """Add the commands of this kind to those of the command line."""
    verify = command(commands, "verify", _verify, "prove a version on a server of its own")
    verify.add_argument("version", nargs="?", type=version, metavar="N", help="(the newest)")
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
    compare.add_argument("version", type=version, metavar="N", help="the candidate")
    compare.add_argument(
        "other",
        nargs="?",
        type=version,
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
        type=percent,
        default=98.0,
        metavar="P",
        help="percent of the rows that must not differ (98)",
    )
    compare.add_argument("--json", action="store_true", help="for programs")
    tune = command(commands, "tune", _tune, "find the batching that answers most, if any does")
    tune.add_argument("--name", help="the model's (the first that is configured)")
    tune.add_argument(
        "--p99-ms", type=_milliseconds, default=50.0, metavar="X", help="the limit (50)"
    )
    tune.add_argument("--seconds", type=count, default=2, metavar="S", help="of each rate (2)")
    tune.add_argument(
        "--output", type=Path, metavar="FILE", help="write the parameters there, and print none"
    )


def _milliseconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected milliseconds, at most 10,000")
    return found


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say of what a trial fails whether it is the version, or that none could be tried.

    Raises:
        InputError: there is no server to try one on, or nothing to ask it.
        Refused: the version does not load, or does not answer.
    """
    from deploy import runner
    from deploy.release.errors import Unreadable
    from tfserving_client import ServingError

    try:
        yield
    except (Unreadable, runner.NoServer) as error:
        raise InputError(str(error)) from error
    except (runner.StartFailed, ServingError) as error:
        raise Refused(str(error)) from error


def _verify(options: argparse.Namespace) -> int:
    from deploy.operate.models import on_disk
    from deploy.release import verify

    if options.path and options.version:
        raise InputError("N and --path are given; expected one of them")
    name, number, folder = (
        on_disk.at(options.path, options.name)
        if options.path
        else on_disk.version(options.name, options.version)
    )
    with _told():
        report = verify.verify(
            folder,
            name,
            number,
            without_golden=options.without_golden,
            timeout=options.timeout,
        )
    print(report.as_json() if options.json else "\n".join(report.lines()))
    if report.problems:
        raise Refused(f"{folder} is refused: {report.problems[0]}")
    return 0


def _compare(options: argparse.Namespace) -> int:
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
    with _told():
        found = compare.compare(
            name,
            folders,
            inputs,
            signature=options.signature,
            agreement=options.agreement / 100,
        )
    print(found.as_json() if options.json else "\n".join(found.lines(inputs)))
    if found.problems:
        raise Refused(f"version {number} does not do as {other}: {found.problems[0]}")
    return 0


def _tune(options: argparse.Namespace) -> int:
    from deploy import runner
    from deploy.operate.models import on_disk
    from deploy.release import tune, tune_report

    output = options.output
    name, _, folder = on_disk.version(options.name, None)
    if output and (output.is_dir() or not os.access(output.resolve().parent, os.W_OK)):
        raise InputError(f"{output} cannot be written")  # rather now than after minutes
    say(f"tune    {folder}, on {runner.kind()}")
    with _told():
        tuner = tune.Tuner(folder, name, options.p99_ms, options.seconds, say)
        settings, use = tuner.run()
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
