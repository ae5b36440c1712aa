"""Train the digit network, or take your own model, and publish it for TensorFlow Serving.

Exit status: 0 published (with --check: it would be), 1 refused by a check (nothing published),
2 bad usage or input, 130 interrupted (nothing left behind). The last line on standard output is the
version's path.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from export import interruption
from export.errors import InputError, Refused
from export.progress import say, without_native_notes

if TYPE_CHECKING:
    from export.publication.pipeline import Published

# Flags that are only for the digits, and flags that are only for a model of your own.
_DIGITS = ("data", "recipe", "epochs", "batch_size", "seed", "min_accuracy")
_MODELS = ("samples", "import", "min", "max")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _complete(options, parser)
    interruption.listen()
    try:
        published = _run(options)
    except BaseException as error:
        if interruption.received():  # whatever a library made of it
            return _fail("interrupted; nothing was published", 130)
        if isinstance(error, InputError):
            return _fail(error, 2)
        if isinstance(error, Refused):
            return _fail(f"not published: {error}", 1)
        if isinstance(error, ModuleNotFoundError):
            return _fail(_missing(error), 2)
        if isinstance(error, OSError):
            return _fail(f"{options.repository}: {error.strerror or error}", 2)
        raise
    if published.path is None:
        say("check   passed; nothing was published")
    else:
        say(f"publish version {published.version}")
    if published.removed:
        say(f"keep    removed versions {', '.join(map(str, published.removed))}")
    # The version is published even if its path cannot be printed.
    with contextlib.suppress(OSError, ValueError):
        if options.json:
            print(_report(published), flush=True)
        elif published.path:
            print(published.path, flush=True)
    return 0


def _complete(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse flags that mean nothing for what is published, and give it a name."""
    options.brought = options.model or options.check
    for flag in _DIGITS if options.brought else _MODELS:
        if getattr(options, flag) != parser.get_default(flag):
            which = "the digits" if options.brought else "--model and --check"
            parser.error(f"argument --{flag.replace('_', '-')}: only for {which}")
    if options.model and not options.name:
        parser.error("argument --model: needs --name, the model's name on the server")
    options.name = options.name or (options.check.resolve().stem if options.check else "mnist")


def _run(options: argparse.Namespace) -> Published:
    """Check the input before TensorFlow is started, which takes seconds."""
    from export.digits.data import sources
    from export.models import given, samples
    from export.publication.repository import Repository

    repository = Repository(options.repository, options.name)
    if options.version is not None:
        repository.check_is_new(options.version)
    if options.brought:
        given.check(options.brought)
        rows = samples.read(options.samples) if options.samples else samples.Samples()
    else:
        dataset = sources.load(options.data)
        say(
            f"data    {dataset.name}: {len(dataset.train):,} to train on, "
            f"{len(dataset.validation):,} to validate, {len(dataset.test):,} to test"
        )
    if find_spec("tensorflow"):
        say("        starting TensorFlow")
    # A server may use the same GPU, and by default TensorFlow takes all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with without_native_notes():
        import tensorflow as tf

        from export.digits.candidate import Digits
        from export.models.candidate import Brought
        from export.publication import pipeline

    tf.get_logger().setLevel("ERROR")
    return pipeline.publish(
        Brought(options.brought, rows, options) if options.brought else Digits(dataset, options),
        repository,
        version=options.version,
        keep=options.keep,
        verify=options.verify,
        check_only=options.check is not None,
    )


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    if package in {"", "export"}:  # a fault of this program's own
        raise error
    return (
        f"{package} is not installed in {sys.prefix}; `make setup` makes an environment with it in "
        ".venv: run .venv/bin/python instead"
    )


def _report(published: Published) -> str:
    where = {"path": published.path and str(published.path), "version": published.version}
    return json.dumps(where | {"removed": published.removed} | published.card)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Train the digit network, or take your own model, and publish a version.",
    )
    add = parser.add_argument
    add(
        "--repository",
        type=Path,
        default=Path("models"),
        metavar="PATH",
        help="the model repository (default: models)",
    )
    add("--name", help="the model's name (default: mnist; needed with --model)")
    add(
        "--version",
        type=_whole(1, 2**63 - 1),
        metavar="N",
        help="the version's number (default: highest + 1)",
    )
    add(
        "--max-regression",
        type=_number,
        default=0.005,
        metavar="X",
        help="refuse to be worse than the newest version by more than this (default: 0.005), or by "
        "more than this share of its figure where that is above 1",
    )
    add(
        "--keep",
        type=_whole(1),
        metavar="N",
        help="then remove all but the newest N versions (default: keep all)",
    )
    add(
        "--verify",
        action="store_true",
        help="before it is published, compare its answers on a temporary server with its golden "
        "answers: that of SERVING_IMAGE or SERVING_BINARY, or the local one",
    )
    add("--json", action="store_true", help="print the report as one JSON object")

    add = parser.add_argument_group("the digits").add_argument
    add(
        "--data",
        default="auto",
        metavar="auto|mnist|digits|PATH",
        help="mnist: Keras's, from its cache or downloaded; digits: the sample of MNIST that ships "
        "here; PATH: an .npz, a .csv, or a folder of IDX or CSV files; auto (default): mnist, "
        "else digits",
    )
    add(
        "--recipe",
        choices=("reference", "fast", "best"),
        default="fast",
        help="reference: the textbook script; fast (default): more accurate, in less time; "
        "best: the most accurate, in minutes",
    )
    add("--epochs", type=_whole(1), metavar="N", help="default: the recipe's")
    add("--batch-size", type=_whole(1), metavar="N", help="default: the recipe's")
    add("--seed", type=_whole(0), metavar="N", help="default: the recipe's")
    add(
        "--min-accuracy",
        type=_share,
        metavar="X",
        help="refuse a lower test accuracy (default: 0.95; with fewer than 20,000 training images "
        "0.9)",
    )

    group = parser.add_argument_group("a model of your own")
    which = group.add_mutually_exclusive_group().add_argument
    which("--model", type=Path, metavar="FILE.keras|FOLDER", help="publish this model")
    which("--check", type=Path, metavar="FILE.keras|FOLDER", help="the same, but publish nothing")
    add = group.add_argument
    add(
        "--samples",
        type=Path,
        metavar="FILE.npz",
        help="rows to try it on: an array for each input, by name, and y (or y_OUTPUT), the truth",
    )
    add(
        "--import",
        action="append",
        default=[],
        metavar="MODULE",
        help="import what defines the model's own layers, metrics or losses",
    )
    for flag, words in (("--min", "below"), ("--max", "above")):
        add(
            flag,
            action="append",
            default=[],
            type=_limit,
            metavar="METRIC=VALUE",
            help=f"refuse a metric {words} this",
        )
    return parser


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a whole number from {least} to {most}"
            )
        return int(text)

    return whole


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, 0 or more")
    return number


def _share(text: str) -> float:
    if (share := _number(text)) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return share


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected METRIC=VALUE") from None


def _open_closed_outputs() -> None:
    """The parent process may have closed them; the run goes on."""
    nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _silence_native_logs() -> None:
    """Keep the C++ libraries' notes from between the lines of progress.

    Some of them ignore the log level and write straight to file descriptor 2; Python's own standard
    error goes on as before. What matters is raised. TF_CPP_MIN_LOG_LEVEL=0 shows all of them.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(reason: object, status: int) -> int:
    say(f"python -m export: {' '.join(str(reason).split())}")
    return status


if __name__ == "__main__":
    _open_closed_outputs()
    _silence_native_logs()
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # Past the interpreter's own end, which would take an interruption up again.
    os._exit(status)
