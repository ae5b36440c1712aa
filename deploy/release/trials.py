"""The commands that test versions on temporary servers, and plan with the results."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.operate.command_line import command, count, percent, say, seconds, version
from deploy.operate.errors import InputError, Refused

if TYPE_CHECKING:
    from deploy.release.requests import Request
    from tfserving_client import Signature

_SAMPLE = 120  # seconds


def add_to(commands: Any) -> None:
    """Add the commands of this kind to those of the command line."""
    verify = command(commands, "verify", _verify, "verify a version on a temporary server")
    verify.add_argument(
        "version",
        nargs="?",
        type=version,
        metavar="N",
        help="the number of the version (default: the newest)",
    )
    verify.add_argument(
        "--path", type=Path, metavar="FOLDER", help="the version in this folder, of any name"
    )
    verify.add_argument(
        "--without-golden", action="store_true", help="accept a version without golden answers"
    )
    verify.add_argument(
        "--timeout",
        type=count,
        default=180,
        metavar="S",
        help="seconds in which it has to be AVAILABLE (180)",
    )
    compare = command(
        commands,
        "compare",
        _compare,
        "send two versions the same requests, and compare the answers",
    )
    compare.add_argument("version", type=version, metavar="N", help="the candidate")
    compare.add_argument(
        "other",
        nargs="?",
        type=version,
        metavar="M",
        help="the other version (default: the live one, else the one below N)",
    )
    asked = compare.add_mutually_exclusive_group()
    asked.add_argument(
        "--requests",
        type=Path,
        metavar="FILE.npz",
        help="requests: arrays by input name (default: the golden inputs of N)",
    )
    asked.add_argument(
        "--live",
        action="store_true",
        help="send a sample of the requests that callers send meanwhile",
    )
    compare.add_argument(
        "--share", type=percent, default=1.0, metavar="P", help="--live: share of the requests (1)"
    )
    compare.add_argument(
        "--rate",
        type=count,
        default=5,
        metavar="N",
        help="--live: requests per second, at most (5)",
    )
    compare.add_argument(
        "--for",
        type=seconds,
        dest="seconds",
        default=_SAMPLE,
        metavar="T",
        help="--live: how long to sample (2m)",
    )
    compare.add_argument(
        "--signature", help="the signature (default: serving_default; with --live: all)"
    )
    compare.add_argument(
        "--agreement",
        type=percent,
        default=98.0,
        metavar="P",
        help="percent of the rows that have to agree (98)",
    )
    tune = command(
        commands, "tune", _tune, "find the batching parameters with the highest throughput"
    )
    tune.add_argument(
        "--seconds",
        type=count,
        default=2,
        metavar="S",
        help="length of the measurement of each rate (2)",
    )
    tune.add_argument(
        "--output", type=Path, metavar="FILE", help="write the best parameters to this file"
    )
    capacity = command(
        commands, "capacity", _capacity, "how many replicas a rate needs, from measurements of tune"
    )
    capacity.add_argument(
        "--rate",
        type=_rates,
        default=[10.0**i for i in range(7)],
        metavar="R,R,…",
        help="requests per second, of one row each (default: 1 to 1,000,000, in powers of ten)",
    )
    capacity.add_argument(
        "--service-ms",
        type=_service_times,
        metavar="P50,P99",
        help="latency of a single request, instead of tune's measurement; P99 is optional",
    )
    units = capacity.add_mutually_exclusive_group()
    units.add_argument(
        "--cores", type=count, metavar="N", help="cores of a replica, with --service-ms (1)"
    )
    units.add_argument("--gpus", type=count, metavar="N", help="GPUs of a replica")
    capacity.add_argument(
        "--price",
        type=_price,
        metavar="X",
        help="price of a core for an hour, or of a GPU with --gpus",
    )
    for limited in (tune, capacity):
        limited.add_argument(
            "--p99-ms",
            type=_milliseconds,
            default=50.0,
            metavar="X",
            help="limit of the 99th percentile (50)",
        )
    for telling in (verify, compare, capacity):
        telling.add_argument("--json", action="store_true", help="print JSON, for programs")
    for each in (verify, compare, tune, capacity):
        each.add_argument("--name", help="the model (default: the only one)")


def _milliseconds(text: str) -> float:
    return _number(text, 10_000, "milliseconds, at most 10,000")


def _rates(text: str) -> list[float]:
    return [
        _number(each, 1e7, "requests per second, at most 10,000,000") for each in text.split(",")
    ]


def _price(text: str) -> float:
    return _number(text, 1e6, "a price, above 0")


def _service_times(text: str) -> tuple[float, float]:
    p50, *more = map(_milliseconds, text.split(","))
    p99 = more[0] if more else p50
    if len(more) > 1 or p99 < p50:
        raise argparse.ArgumentTypeError(f"{text!r}: expected P50 or P50,P99, P99 the larger")
    return p50, p99


def _number(text: str, most: float, expected: str) -> float:
    """Above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= most:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return found


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise the right error for a failed test: the version failed, or the test was not possible.

    Raises:
        InputError: there is no server to test on, or no requests for it.
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
        raise InputError("both N and --path are given; expected one of them")
    if options.path:
        name, number, folder = on_disk.at(options.path, options.name)
    else:
        name = on_disk.meant(options.name)
        number, folder = on_disk.version(name, options.version)
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
    from deploy.release import compare, machine, requests

    name = on_disk.meant(options.name)
    number, folder = on_disk.version(name, options.version)
    other = options.other or machine.live_or_below(name, number)
    folders = {number: folder, other: on_disk.version(name, other)[1]}
    signature = options.signature or requests.DEFAULT
    kept = _sample(options, name) if options.live else b""
    asked = [] if kept else requests.of_rows(_rows(options, folder, signature), signature)
    with _told(), compare.served(name, folders) as servings:
        if kept:
            asked = _live(kept, servings[1].metadata().signatures, options.signature)
        found = compare.compare(servings, (number, other), asked, agreement=options.agreement / 100)
    print(found.as_json() if options.json else "\n".join(found.lines()))
    if found.problems:
        raise Refused(f"version {number} does not behave like {other}: {found.problems[0]}")
    return 0


def _rows(options: argparse.Namespace, folder: Path, signature: str) -> Mapping[str, Any]:
    """The requests of the file, or the version's golden inputs."""
    from deploy.release import golden, requests
    from deploy.release.errors import Unreadable

    if options.requests:
        return requests.read(options.requests)
    try:
        return golden.read(folder)[signature].inputs
    except (Unreadable, KeyError) as error:
        raise InputError(f"{error}: no requests; name a file with --requests") from None


def _sample(options: argparse.Namespace, name: str) -> bytes:
    """A sample of live requests, before any server is started: it may take long."""
    from deploy.operate.stack import engine
    from deploy.release import shadow

    with engine.connect() as client:
        return shadow.sample(
            client,
            engine.Compose().config["name"],
            name,
            percent=options.share,
            rate=options.rate,
            seconds=options.seconds,
            say=say,
        )


def _live(kept: bytes, signatures: Mapping[str, Signature], signature: str | None) -> list[Request]:
    """The requests of a sample: those of a signature, or all."""
    from deploy.release import requests

    found, others = requests.of_lines(kept, signatures)
    asked = [one for one in found if signature in (None, one.signature)]
    say(f"sample  {len(asked)} requests to send again; {others} others left out")
    if not asked:
        raise Refused("none of the sampled requests can be sent again")
    return asked


def _tune(options: argparse.Namespace) -> int:
    from deploy import runner
    from deploy.operate.models import on_disk
    from deploy.release import service, tune, tune_report

    output = options.output
    name = on_disk.meant(options.name)
    _, folder = on_disk.version(name, None)
    if output and (output.is_dir() or not os.access(output.resolve().parent, os.W_OK)):
        raise InputError(f"{output} cannot be written")  # now, rather than after minutes
    say(f"tune    {folder}, on {runner.kind()}")
    with _told():
        tuner = tune.Tuner(folder, name, options.p99_ms, options.seconds, say)
        settings, use, found = tuner.run()
    limited = tuner.is_generator_limit
    for line in tune_report.lines(settings, use, options.p99_ms, is_generator_limit=limited):
        print(line)
    if output and use.text:
        output.write_text(use.text)
        say(f"tune    {output} is written, for the server's flag --batching_parameters_file")
    elif output:
        say(f"tune    {output} is not written: no batching is better than the default")
    elif use.text:
        print(f"\n{use.text}", end="")
    say(f"tune    {service.write(name, found)} is written; it is for `python -m deploy capacity`")
    return 0


def _capacity(options: argparse.Namespace) -> int:
    from deploy.operate.models import on_disk
    from deploy.release import capacity, capacity_report, service
    from deploy.release.errors import Unreadable

    if options.service_ms:
        p50, p99 = options.service_ms
        found = capacity.given(p50, p99, options.gpus or options.cores or 1)
    elif options.cores:
        raise InputError(
            "--cores goes with --service-ms; without it the cores are those that tune measured"
        )
    else:
        try:
            found = service.read(on_disk.meant(options.name))
        except Unreadable as error:
            raise InputError(str(error)) from error
    cost = capacity_report.Cost(
        "gpu" if options.gpus else "core", options.gpus or found.cores, options.price
    )
    try:
        plans = [capacity.plan(found, rate, options.p99_ms) for rate in options.rate]
    except capacity.TooSlow as error:
        raise Refused(str(error)) from error
    if options.json:
        print(capacity_report.as_json(found, plans, cost))
    else:
        print("\n".join(capacity_report.lines(found, plans, cost)))
    return 0
