"""Ask a digit model from the command line.

Exit status: 0 done, 1 a call failed, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import sys

try:
    import argparse
    import io
    import json
    import os
    from collections import Counter, deque
    from collections.abc import Callable, Iterator, Sequence
    from dataclasses import asdict
    from itertools import chain, cycle, islice
    from pathlib import Path
    from typing import TYPE_CHECKING, Any

    from client.pictures import paths, pictures
    from client.progress import Progress
except KeyboardInterrupt:
    sys.exit(130)

# numpy and gRPC load slowly: within `main`, where Ctrl-C is met, and not for --help.
if TYPE_CHECKING:
    from client import DigitClient

_URL = "grpc://localhost:8500"
_TIMEOUT, _READY_TIMEOUT = 10, 60  # seconds
_FEW = 4  # pictures that are drawn without --draw
_MANY = 100  # pictures; with more the progress is shown at once

_EXAMPLES = """examples:
  python -m client classify seven.png scans/ 'more/**/*.jpg'
  find /data -name '*.png' | python -m client classify - --json > answers.jsonl
  python -m client wait --url http://localhost:8501 && python -m client status
  python -m client bench --rate 200 --duration 30 --picture latency.svg"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        return _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    from client import CallError, InvalidInput

    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except InvalidInput as error:
        return _fail(error, 2)
    except CallError as error:
        return _fail(error, 1)
    except OSError as error:
        # Whoever read went away, or the disk is full. The interpreter's own flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # `| head` has seen enough
            return 1
        return _fail(f"the answer cannot be written: {error.strerror}", 1)
    return status


def _fail(error: object, status: int) -> int:
    print(_line(error), file=sys.stderr)
    return status


def _line(error: object) -> str:
    return f"python -m client: {' '.join(str(error).split())}"


def _parser() -> argparse.ArgumentParser:
    looks: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}
    parser = argparse.ArgumentParser(
        prog="python -m client", description="Ask a digit model on TensorFlow Serving.", **looks
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
        if run not in (_status, _wait):
            add("--label", "ask the version with this label")
        add("--json", "answer in JSON, for programs", **on)
        timeout = _READY_TIMEOUT if run is _wait else _TIMEOUT
        add("--timeout", "seconds, all attempts together", timeout, type=float, metavar="S")
        add("--api-key", "better in DIGITS_API_KEY: others here can see a command line", key)
        add("--ca", "the authorities to trust, with grpcs:// or https://", metavar="PEM")
        add("--cert", "this client's certificate", metavar="PEM")
        add("--key", "and its key", metavar="PEM")
        return add

    add = command("classify", _classify, "which digit is on each picture")
    words = "PNG or JPEG, a folder, a quoted glob, or -: one picture, or paths line by line"
    add("files", words, nargs="+", metavar="FILE")
    add("--draw", "draw the pictures, however many and wherever to", **on)
    command("status", _status, "the state of every version on the server")
    command("metadata", _metadata, "the signatures of a loaded version")
    command("wait", _wait, "return once a version is AVAILABLE")
    add = command("bench", _bench, "put load on a server and measure its latency")
    add("--rate", "requests/s, sent when due; without it callers ask in turn", type=positive)
    add("--arrivals", "of --rate", "poisson", choices=["poisson", "constant"])
    add("--in-flight", "at most, of --rate", 1000, type=count, metavar="N")
    add("--callers", "without --rate", 8, type=count, metavar="N")
    add("--duration", "seconds", 10, type=positive, metavar="S")
    add("--batch", "images per request", 1, type=count, metavar="N")
    add("--images", "an .npz or a folder; without it noise is sent, no digits", metavar="PATH")
    add("--seed", "of the noise and of poisson", 1, type=count, metavar="N")
    add("--picture", "draw the report here", metavar="SVG")
    return parser


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        if not 0 < (value := kind(text)) < 1e6:
            raise ValueError
        return value

    return number


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from client import Tls

    files = {"ca": options.ca, "certificate": options.cert, "key": options.key}
    return {
        "url": options.url,
        "model": options.model,
        "api_key": options.api_key,
        "tls": Tls(**files) if any(files.values()) else None,
    }


def _connect(options: argparse.Namespace) -> DigitClient:
    from client import DigitClient

    return DigitClient(**_settings(options), timeout=options.timeout)


def _classify(options: argparse.Namespace) -> int:
    from client import DigitsError, InvalidInput, Rejected
    from client.drawing import bar, picture

    named, total = pictures(options.files)
    first = list(islice(named, _FEW + 1))
    drawn = options.draw or (len(first) <= _FEW and sys.stdout.isatty())
    asked: deque[tuple[str, str | bytes]] = deque()
    failures: Counter[str] = Counter()
    done = refused = 0

    def items() -> Iterator[str | bytes]:
        for picture_asked in chain(first, named):
            asked.append(picture_asked)
            yield picture_asked[1]

    def pace(seconds: float) -> str:
        of = f" of {total:,}" if total else ""
        share = f"{bar(done / total, 20)} " if total else ""
        return f"{share}{done:,}{of} pictures, {done / seconds:,.0f}/s"

    which = {"version": options.version, "label": options.label}
    with _connect(options) as digits, Progress(pace, at_once=(total or 0) > _MANY) as progress:
        for answer in digits.classify_many(items(), **which, return_exceptions=True):
            (name, item), done = asked.popleft(), done + 1
            if isinstance(answer, DigitsError):
                line: dict[str, Any] = {"file": name, "error": str(answer)}
                refused += isinstance(answer, InvalidInput)
                text = str(answer)
                if isinstance(answer, InvalidInput | Rejected) and repr(name) not in text:
                    text = f"{name}: {text}"
                failures[text] += 1
                if failures[text] == 1:  # a server that is gone says the same of every picture
                    progress.print(_line(text), sys.stderr)
            else:
                row = answer.probabilities[0]
                line = {"file": name, "digit": int(answer.digits[0])}
                line["probabilities"] = [round(float(p), 6) for p in row]
                line["version"] = answer.version
                if not options.json:
                    share = row[line["digit"]]
                    progress.print(f"{line['digit']}  {share:6.1%} {bar(share, 20)} {name}")
                    for drawn_line in picture(item, row) if drawn else ():
                        progress.print(drawn_line)
            if options.json:
                progress.print(json.dumps(line))
    if not done:
        raise InvalidInput("no picture is named")
    for text, count in failures.items():
        if count > 1:
            _fail(f"{count - 1:,} more failed like {text[:60]!r}…", 1)
    return 0 if not failures else 2 if refused == done else 1


def _status(options: argparse.Namespace) -> int:
    with _connect(options) as digits:
        for status in digits.status(version=options.version):
            if options.json:
                print(json.dumps(asdict(status)))
            else:
                print(f"{options.model} {status.version}  {status.state}  {status.error}".rstrip())
    return 0


def _metadata(options: argparse.Namespace) -> int:
    with _connect(options) as digits:
        metadata = digits.metadata(version=options.version, label=options.label)
    if options.json:
        print(json.dumps(asdict(metadata)))
        return 0
    print(f"{metadata.model} {metadata.version}")
    for name, signature in sorted(metadata.signatures.items()):
        print(f"  {name}")
        for way, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for alias, spec in sorted(specs.items()):
                sizes = "?" if spec.shape is None else [s or "n" for s in spec.shape]
                print(f"    {way:3}  {alias}: {spec.dtype} {sizes}".replace("'", ""))
    return 0


def _wait(options: argparse.Namespace) -> int:
    timeout = options.timeout
    where = f"{options.model} at {options.url}"
    with _connect(options) as digits, Progress(lambda s: f"{where}: {s:.0f} of {timeout:g} s"):
        digits.wait_until_ready(version=options.version, timeout=timeout)
    print(json.dumps({"ready": True}) if options.json else f"{where} is ready")
    return 0


def _bench(options: argparse.Namespace) -> int:
    import asyncio

    from client import AsyncDigitClient, InvalidInput, Policy, drawing, load

    images, source = _bench_images(options)
    requests = cycle(load.batches(images, options.batch))
    loop = f"{options.callers} callers in a closed loop"
    if options.rate:
        loop = f"{options.rate:g} requests/s in an open loop ({options.arrivals})"
    title = f"{loop} for {options.duration:g} s, each {options.batch} of {source}, {options.url}"
    if options.picture:
        path = Path(options.picture)  # rather now than after the run
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InvalidInput(f"{options.picture!r} cannot be written")

    async def run() -> list[load.Sample]:
        # An attempt that is made again would be measured as one slow request.
        policy = Policy(timeout=options.timeout, attempts=1)
        async with AsyncDigitClient(**_settings(options), policy=policy) as digits:

            async def call() -> None:
                await digits.classify(next(requests), version=options.version, label=options.label)

            await call()  # connects, and fails here if there is nothing to measure
            with Progress(lambda s: f"{s:.0f} of {options.duration:g} s"):
                if options.rate is None:
                    return await load.closed_loop(call, options.callers, options.duration)
                seed = options.seed if options.arrivals == "poisson" else None
                due = load.arrivals(options.rate, options.duration, seed)
                return await load.open_loop(call, due, options.in_flight)

    report = load.report(
        asyncio.run(run()), seconds=options.duration, batch=options.batch, asked=options.rate
    )
    lines = [title, *drawing.load_lines(report)]
    print(json.dumps({"title": title, **asdict(report)}) if options.json else "\n".join(lines))
    if options.picture:
        Path(options.picture).write_text(drawing.load_svg(report, title), encoding="utf-8")
    return 1 if report.errors else 0


def _bench_images(options: argparse.Namespace) -> tuple[Any, str]:
    """Images to send, and in words what they are."""
    import numpy as np

    from client import InvalidInput, load

    if options.images is None:
        return load.noise(1000, options.seed), f"1,000 noise images (seed {options.seed})"
    try:
        if not options.images.endswith(".npz"):
            files = [Path(path).read_bytes() for path in paths(options.images)]
            return files, f"{len(files):,} pictures"
        with np.load(options.images) as arrays:
            # MNIST's own archive has labels, too, and its test images come first by name.
            for name in sorted(arrays.files):
                if (images := arrays[name]).ndim > 1 and len(images):
                    return images, f"{len(images):,} images ({name})"
    except Exception as error:  # a bad .npz has many
        raise InvalidInput(f"{options.images!r} cannot be read: {error}") from None
    raise InvalidInput(f"{options.images!r} holds no images")


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars, in a terminal that has none
    sys.exit(main())
