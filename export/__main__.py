"""Train the digit network and publish it for TensorFlow Serving.

Exit status: 0 published, 1 refused by a check (nothing published), 2 bad usage or input,
130 interrupted (nothing left behind). The last line on standard output is the version's path.
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
    from export.pipeline import Published


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    as_json = options.json
    del options.json
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
    if published.removed:
        say(f"keep    removed versions {', '.join(map(str, published.removed))}")
    say(f"publish version {published.version}")
    # If nobody reads, the version is there all the same.
    with contextlib.suppress(OSError, ValueError):
        print(_report(published) if as_json else published.path, flush=True)
    return 0


def _run(options: argparse.Namespace) -> Published:
    """Look at what is given before TensorFlow is started, which takes seconds."""
    from export.digits.data import sources
    from export.publication.repository import Repository

    repository = Repository(options.repository, options.name)
    if options.version is not None:
        repository.check_is_new(options.version)
    dataset = sources.load(options.data)
    say(
        f"data    {dataset.name}: {len(dataset.train):,} to train on, "
        f"{len(dataset.validation):,} to validate, {len(dataset.test):,} to test"
    )
    if find_spec("tensorflow"):
        say("        starting TensorFlow")
    # A server may be at work on the same GPU, and by default TensorFlow takes all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with without_native_notes():
        import tensorflow as tf

        from export import pipeline

    tf.get_logger().setLevel("ERROR")
    rest = {key: value for key, value in vars(options).items() if key not in ("repository", "data")}
    return pipeline.run(pipeline.Options(**rest), repository, dataset)


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    if package in {"", "export"}:  # a fault of this program's own
        raise error
    return (
        f"{package} is not installed in {sys.prefix}; `make setup` makes an environment with it in "
        ".venv: run .venv/bin/python instead"
    )


def _report(published: Published) -> str:
    where = {"path": str(published.path), "version": published.version}
    return json.dumps(where | {"removed": published.removed} | published.card)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export", description="Train the digit network and publish a version."
    )
    add = parser.add_argument
    add(
        "--repository",
        type=Path,
        default=Path("models"),
        metavar="PATH",
        help="the model repository (default: models)",
    )
    add("--name", default="mnist", help="the model's name (default: mnist)")
    add(
        "--version",
        type=_whole(1, 2**63 - 1),
        metavar="N",
        help="the version's number (default: highest + 1)",
    )
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
        help="reference: the textbook script; fast (default): better in a fraction of its time; "
        "best: better still, in minutes",
    )
    add("--epochs", type=_whole(1), metavar="N", help="default: the recipe's")
    add("--batch-size", type=_whole(1), metavar="N", help="default: the recipe's")
    add("--seed", type=_whole(0), metavar="N", help="default: the recipe's")
    add(
        "--min-accuracy",
        type=_share,
        default=0.95,
        metavar="X",
        help="refuse a lower test accuracy (default: 0.95)",
    )
    add(
        "--max-regression",
        type=_share,
        default=0.005,
        metavar="X",
        help="refuse to fall more than this below the newest version (default: 0.005)",
    )
    add(
        "--keep",
        type=_whole(1),
        metavar="N",
        help="then remove all but the newest N versions (default: keep all)",
    )
    add("--json", action="store_true", help="print the report as one JSON object")
    return parser


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a whole number from {least} to {most}"
            )
        return int(text)

    return whole


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return share


def _open_closed_outputs() -> None:
    """Whoever started this may have closed them; a run is not lost for it."""
    nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _silence_native_logs() -> None:
    """Keep the C++ libraries' notes from between the lines of progress.

    Some of them heed no log level and write straight to file descriptor 2; Python's own standard
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
