"""Ask a model from the command line.

Exit status: 0 done, 1 a call failed, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfserving_client.command import bench, classify, predict, status
from tfserving_client.command.failures import fail

_URL = "grpc://localhost:8500"
_TIMEOUT, _READY_TIMEOUT = 10, 60  # seconds

_NO_LIST = (
    "TensorFlow Serving does not say which models it serves. `status --model NAME` shows one whose "
    "name you know, `metadata --model NAME` its inputs and outputs; the server's configuration "
    "file lists them all"
)
_EXAMPLES = """examples:
  python -m tfserving_client classify seven.png scans/ 'more/**/*.jpg'
  find /data -name '*.png' | python -m tfserving_client classify - --json > answers.jsonl
  python -m tfserving_client predict --model price --inputs flat.json
  python -m tfserving_client wait --url http://localhost:8501 && python -m tfserving_client status
  python -m tfserving_client bench --rate 200 --duration 30 --picture latency.svg"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        if (sys.argv[1:] if arguments is None else arguments)[:1] == ["models"]:
            return fail(_NO_LIST, 2)
        return _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    from tfserving_client import CallError, InvalidInput

    try:
        done: int = options.run(options)
        sys.stdout.flush()
    except InvalidInput as error:
        return fail(error, 2)
    except CallError as error:
        return fail(error, 1)
    except OSError as error:
        # The reader went away, or the disk is full. The interpreter's own flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # `| head` has seen enough
            return 1
        return fail(f"the answer cannot be written: {error.strerror}", 1)
    return done


def _parser() -> argparse.ArgumentParser:
    looks: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}
    parser = argparse.ArgumentParser(
        prog="python -m tfserving_client", description="Ask a model on TensorFlow Serving.", **looks
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    url, key = os.environ.get("DIGITS_URL") or _URL, os.environ.get("DIGITS_API_KEY") or None
    count, positive = _positive(int), _positive(float)
    on: Any = {"action": "store_true"}

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> Any:
        sub = commands.add_parser(name, help=summary, description=summary, **looks)
        sub.set_defaults(run=run)

        def add(flag: str, words: str, default: Any = None, **more: Any) -> None:
            shown = "" if default in (None, key) else " (%(default)s)"
            sub.add_argument(flag, help=words + shown, default=default, **more)

        add("--url", "or DIGITS_URL: grpc://, grpcs://, http:// or https://", url)
        add("--model", "the model's name", "mnist")
        add("--version", "ask this version", type=int, metavar="N")
        if run not in (status.status, status.wait):
            add("--label", "ask the version with this label")
        add("--json", "print JSON, for programs", **on)
        timeout = _READY_TIMEOUT if run is status.wait else _TIMEOUT
        add("--timeout", "seconds, all attempts together", timeout, type=float, metavar="S")
        add("--api-key", "better in DIGITS_API_KEY: other users can see a command line", key)
        add("--ca", "the authorities to trust, with grpcs:// or https://", metavar="PEM")
        add("--cert", "this client's certificate", metavar="PEM")
        add("--key", "and its key", metavar="PEM")
        return add

    add = command("classify", classify.classify, "which digit is on each picture")
    words = "PNG or JPEG, a folder, a quoted glob, or -: one picture, or paths line by line"
    add("files", words, nargs="+", metavar="FILE")
    add("--draw", "draw the pictures, also many, and also when the output is no terminal", **on)
    add = command("predict", predict.predict, "a model's answer to inputs from a file")
    words = "JSON or .npz of input names to values, or -: JSON from standard input"
    add("--inputs", words, required=True, metavar="FILE")
    add("--signature", "the signature to run", "serving_default", metavar="S")
    command("status", status.status, "the state of every version on the server")
    command("metadata", status.metadata, "the signatures of a loaded version")
    command("wait", status.wait, "return once a version is AVAILABLE")
    add = command("bench", bench.bench, "put load on a server and measure its latency")
    add("--rate", "requests/s; without it each caller sends its next when answered", type=positive)
    add("--arrivals", "of requests, with --rate", "poisson", choices=["poisson", "constant"])
    add("--in-flight", "requests in flight at most, with --rate", 1000, type=count, metavar="N")
    add("--callers", "callers at the same time, without --rate", 8, type=count, metavar="N")
    add("--duration", "seconds", 10, type=positive, metavar="S")
    add("--batch", "images per request", 1, type=count, metavar="N")
    add("--images", "an .npz or a folder; without it, noise is sent", metavar="PATH")
    add("--seed", "for the noise and for poisson", 1, type=count, metavar="N")
    add("--picture", "write the report to this file, as a picture", metavar="SVG")
    return parser


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        if not 0 < (value := kind(text)) < 1e6:
            raise ValueError
        return value

    return number
