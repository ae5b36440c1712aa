"""Ask a digit model from the command line.

Exit status: 0 done, 1 the call failed, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from client import CallError, DigitClient, InvalidInput
from client.digit_client import DEFAULT_TIMEOUT, READY_TIMEOUT
from client.drawing import bar

DEFAULT_URL = "grpc://localhost:8500"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        with DigitClient(options.url, model=options.model) as digits:
            options.run(digits, options)
        sys.stdout.flush()
    except InvalidInput as error:
        return _fail(error, 2)
    except CallError as error:
        return _fail(error, 1)
    except OSError as error:
        # Whoever read went away, or the disk is full. The interpreter's own flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(f"the answer cannot be written: {error.strerror}", 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client", description="Ask a digit model on TensorFlow Serving."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url",
        default=os.environ.get("DIGITS_URL", DEFAULT_URL),
        help=f"grpc://, grpcs://, http:// or https:// (default: DIGITS_URL or {DEFAULT_URL})",
    )
    common.add_argument("--model", default="mnist", help="the model's name (default: mnist)")
    common.add_argument("--version", type=int, metavar="N", help="ask this version")
    common.add_argument("--json", action="store_true", help="machine-readable lines")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, summary: str, timeout: float) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=summary, description=summary)
        sub.add_argument(
            "--timeout",
            type=float,
            default=timeout,
            metavar="S",
            help="seconds (default: %(default)g)",
        )
        sub.set_defaults(run=run)
        return sub

    classify = command("classify", _classify, "which digit is on each picture", DEFAULT_TIMEOUT)
    classify.add_argument("files", nargs="+", metavar="FILE", help="PNG or JPEG")
    command("status", _status, "the state of every version on the server", DEFAULT_TIMEOUT)
    metadata = command("metadata", _metadata, "the signatures of a loaded version", DEFAULT_TIMEOUT)
    for labelled in (classify, metadata):
        labelled.add_argument("--label", help="ask the version with this label")
    command("wait", _wait, "return once a version is AVAILABLE", READY_TIMEOUT)
    return parser


def _classify(digits: DigitClient, options: argparse.Namespace) -> None:
    answer = digits.classify(
        options.files, version=options.version, label=options.label, timeout=options.timeout
    )
    for file, digit, row in zip(options.files, answer.digits, answer.probabilities, strict=True):
        if options.json:
            probabilities = [round(float(p), 6) for p in row]
            line = {"file": file, "digit": int(digit), "probabilities": probabilities}
            print(json.dumps(line | {"version": answer.version}))
        else:
            print(f"{digit}  {row[digit]:6.1%} {bar(row[digit], 20)} {file}")


def _status(digits: DigitClient, options: argparse.Namespace) -> None:
    for status in digits.status(version=options.version, timeout=options.timeout):
        if options.json:
            print(json.dumps(asdict(status)))
        else:
            print(f"{options.model} {status.version}  {status.state}  {status.error}".rstrip())


def _metadata(digits: DigitClient, options: argparse.Namespace) -> None:
    metadata = digits.metadata(
        version=options.version, label=options.label, timeout=options.timeout
    )
    if options.json:
        print(json.dumps(asdict(metadata)))
        return
    print(f"{metadata.model} {metadata.version}")
    for name, signature in sorted(metadata.signatures.items()):
        print(f"  {name}")
        for way, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for alias, spec in sorted(specs.items()):
                sizes = "?" if spec.shape is None else [s or "n" for s in spec.shape]
                print(f"    {way:3}  {alias}: {spec.dtype} {sizes}".replace("'", ""))


def _wait(digits: DigitClient, options: argparse.Namespace) -> None:
    digits.wait_until_ready(version=options.version, timeout=options.timeout)
    if options.json:
        print(json.dumps({"ready": True}))
    else:
        print(f"{options.model} at {options.url} is ready")


def _fail(error: object, status: int) -> int:
    print(f"python -m client: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars, in a terminal that has none
    sys.exit(main())
