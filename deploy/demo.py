"""Demonstrate the bundle: serve the newest version, ask it over gRPC and REST, stop.

It uses the named model, or the first one in the server's configuration. `SERVING=docker` serves
with `python -m deploy up`, which is started only if it does not run yet; otherwise the local server
serves.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy import environment

try:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from deploy import model_config
    from deploy.operate.commands import NOTHING_RUNS
    from deploy.operate.stack import served
    from deploy.runner import StartFailed, serve
    from tfserving_client import CallError, Classification, DigitClient
    from tfserving_client.command.drawing import bar, draw, side_by_side
except ModuleNotFoundError as missing:
    sys.exit(f"demo: {environment.told(missing, 'make setup')}")

SHEET = Path("build/demo.png")
_IN_DOCKER = os.environ.get("SERVING") == "docker"


def main(name: str) -> int:
    """Run the demonstration of this model; 0 if every call was answered."""
    model = Path("models", name)
    versions = [path for path in model.glob("*") if path.name.isdecimal()]
    if not versions:
        return _fail(f"{model} holds no version; make one with `python -m export --name {name}`")
    newest = max(versions, key=lambda path: int(path.name))
    extra = newest / "assets.extra"
    if _IN_DOCKER and name not in {one.name for one in _configured()}:
        return _fail(f"{name} is not configured; add it with `python -m deploy models add {name}`")
    golden = {}
    if (extra / "golden.npz").exists():
        with np.load(extra / "golden.npz", allow_pickle=False) as arrays:
            golden = dict(arrays)
    if not {"files", "images", "labels"} <= golden.keys():
        return _fail(
            f"{newest} does not take digits, which the demonstration needs; choose "
            "another model: NAME=mnist"
        )
    card = json.loads((extra / "model_card.json").read_text())
    accuracy, data = card["metrics"]["test_accuracy"], card["data"]
    print(f"model   {newest}: {accuracy:.2%} of {data['test']:,} test images of {data['name']!r}")
    if data["note"]:
        print(f"        {data['note']}")
    try:
        with _serving(model) as (grpc_url, rest_url):
            answer = _classify(grpc_url, rest_url, name, golden)
    except (StartFailed, CallError, subprocess.CalledProcessError) as error:
        return _fail(error)
    print()
    _show_in_terminal(golden, answer)
    _write_sheet(golden, answer)
    print(f"\nsheet   all {len(answer)} digits: {SHEET}")
    server = "deploy up"
    if not _IN_DOCKER:
        flags = f"--rest_api_port=8501 --model_name={name}"
        server = f"deploy.local {flags} --model_base_path={model.resolve()}"
    print(
        "page    draw your own: http://localhost:8501 while this runs:\n"
        f"        .venv/bin/python -m {server}"
    )
    return 0


def _configured() -> tuple[model_config.Model, ...]:
    return model_config.read(served.place(served.MODELS))


@contextlib.contextmanager
def _serving(model: Path) -> Iterator[tuple[str, str]]:
    if not _IN_DOCKER:
        print("serve   python -m deploy.local is starting")
        with serve(model) as server:
            yield server.grpc_url, server.rest_url
        print("stop    the server is stopped")
        return
    runs = _deploy("status", check=False).returncode != NOTHING_RUNS
    print(f"serve   python -m deploy {'runs already' if runs else 'up'}", flush=True)
    try:
        if not runs:
            _deploy("up")
        urls = json.loads(_deploy("status", "--json").stdout)["urls"]
        grpc_url, rest_url = (
            next(url for url in urls if url.startswith(plain)) for plain in ("grpc:", "http:")
        )
        yield grpc_url, rest_url
    finally:
        if not runs:
            _deploy("down")
            print("stop    python -m deploy down")


def _deploy(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "deploy", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=check)


def _classify(
    grpc_url: str, rest_url: str, model: str, golden: Mapping[str, NDArray[Any]]
) -> Classification:
    files = [bytes(file) for file in golden["files"]]
    with (
        DigitClient(grpc_url, model=model) as over_grpc,
        DigitClient(rest_url, model=model) as over_rest,
    ):
        answer = _ask("gRPC", over_grpc, golden["images"], golden["labels"])
        _ask("REST", over_rest, golden["images"], golden["labels"])
        _ask("gRPC", over_grpc, files, golden["labels"])
        _ask("REST", over_rest, files, golden["labels"])
    return answer


def _ask(way: str, digits: DigitClient, images: Any, labels: NDArray[np.uint8]) -> Classification:
    started = time.perf_counter()
    answer = digits.classify(images)
    milliseconds = 1000 * (time.perf_counter() - started)
    kind = "PNG files" if isinstance(images, list) else "arrays"
    version = f", says version {answer.version}" if answer.version is not None else ""
    right = int((answer.digits == labels).sum())
    print(
        f"ask     {len(answer)} digits as {kind} over {way}: "
        f"{right} right, {milliseconds:.1f} ms{version}"
    )
    return answer


def _show_in_terminal(golden: Mapping[str, NDArray[Any]], answer: Classification) -> None:
    """The first golden digit of each kind, in rows of five."""
    _, first = np.unique(golden["labels"], return_index=True)
    for row in (first[:5], first[5:]):
        print("\n".join(side_by_side([draw(golden["images"][i]) for i in row])))
        captions = [
            [
                f" {answer.digits[i]} {bar(answer.probabilities[i].max(), 5)} "
                f"{answer.probabilities[i].max():4.0%}".ljust(14)
            ]
            for i in row
        ]
        print("\n".join(side_by_side(captions)))


def _write_sheet(golden: Mapping[str, NDArray[Any]], answer: Classification) -> None:
    """All golden digits in a grid, ten to a row, each over its answer; wrong ones in red."""
    cell, scale = 72, 2
    rows = -(-len(answer) // 10)
    sheet = Image.new("RGB", (10 * cell, rows * cell), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, label) in enumerate(zip(golden["images"], golden["labels"], strict=True)):
        x, y = i % 10 * cell, i // 10 * cell
        digit = Image.fromarray(255 - image).resize((28 * scale, 28 * scale))
        sheet.paste(digit, (x + (cell - 28 * scale) // 2, y))
        right = answer.digits[i] == label
        caption = f"{answer.digits[i]}  {answer.probabilities[i].max():.0%}"
        pen.text((x + 22, y + 57), caption, fill="black" if right else "red")
    SHEET.parent.mkdir(exist_ok=True)
    sheet.save(SHEET)


def _fail(reason: object) -> int:
    print(f"demo: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else _configured()[0].name))
