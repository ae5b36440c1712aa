"""Measure the signature `encoded`: accuracy by distortion and page, and what refusals cost.

`python -m tests.bench.encoded [VERSION_FOLDER]` prints the tables, and writes to build/encoded.png
for each distortion some redrawn pages, each beside the 28×28 that the network sees.
"""

from __future__ import annotations

import argparse
import io
import statistics
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from export.digits.data import sources as data
from export.digits.graph.decoding import MAX_FILE_BYTES, MAX_SCANS, MAX_SIDE
from export.digits.graph.preprocessing import normalise_files
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel
from tests.bench.encoded_pages import digits_on_pages, no_single_digit
from tests.conftest import real_mnist
from tests.export.digits.graph.redrawn import REDRAWINGS, redraw

SHEET = Path("build/encoded.png")
MOST_MS = 50.0
_SHOWN, _CELL, _NAME = 8, 84, 190  # pages a row; pixels of a picture and of the row's name
_REFUSALS = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.encoded", description=__doc__)
    parser.add_argument("version", type=Path, nargs="?", help="default: the newest of models/mnist")
    data_help = "as for python -m export (default: the genuine MNIST)"
    parser.add_argument("--data", default=str(real_mnist() or "mnist"), help=data_help)
    parser.add_argument("--images", type=int, default=1_000, help="test images (default: 1000)")
    options = parser.parse_args(arguments)
    whole = data.load(options.data).test
    chosen = np.random.default_rng(0).permutation(len(whole))[: options.images]
    with ServedModel(options.version or _newest()) as model:
        test = data.Split(whole.images[chosen], whole.labels[chosen])
        held = [_accuracy(model, test)]
        _write_sheet(test.images[:_SHOWN])
        held += [digits_on_pages(model, test), no_single_digit(model, test), _refusals(model)]
    return 0 if all(held) else 1


def _newest() -> Path:
    versions = Repository(Path("models"), "mnist").versions()
    if not versions:
        raise SystemExit("models/mnist holds no version; make one with `python -m export`")
    return versions[max(versions)]


def _accuracy(model: ServedModel, test: data.Split) -> bool:
    """Print what each distortion costs; whether none costs more than it may."""
    held = True
    plain = model.run("serving_default", test.images)["digits"] == test.labels
    print(f"{len(test)} test images, plain accuracy {plain.mean():.2%}\n")
    print("| distortion | accuracy | points below plain | at most | lost, won | ms per image |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, how in REDRAWINGS.items():
        files = np.array(list(redraw(test.images, how)), dtype=object)
        start = time.perf_counter()
        right = model.run("encoded", files)["digits"] == test.labels
        each = (time.perf_counter() - start) / len(test) * 1e3
        lost, won = (plain & ~right).sum(), (right & ~plain).sum()
        below = (plain.mean() - right.mean()) * 100
        title = f"{name} ({how.reason})" if how.reason else name
        most = how.margin * 100
        figures = f"{right.mean():.2%} | {below:.1f} | {most:.1f} | {lost}, {won} | {each:.1f}"
        print(f"| {title} | {figures} |", flush=True)
        held &= bool(below <= most)
    return held


def _write_sheet(images: NDArray[np.uint8]) -> None:
    size = (_NAME + 2 * _CELL * len(images), _CELL * len(REDRAWINGS))
    sheet = Image.new("RGB", size, "#808080")
    draw = ImageDraw.Draw(sheet)
    for row, (name, how) in enumerate(REDRAWINGS.items()):
        files = list(redraw(images, how))
        draw.text((6, row * _CELL + _CELL // 2 - 6), name, fill="white")
        for column, (file, seen) in enumerate(zip(files, _seen(files), strict=True)):
            place = (_NAME + 2 * _CELL * column, row * _CELL)
            sheet.paste(_thumbnail(file), place)
            digit = Image.fromarray(seen).resize((_CELL - 2, _CELL - 2), Image.Resampling.NEAREST)
            sheet.paste(digit, (place[0] + _CELL, place[1]))
    SHEET.parent.mkdir(exist_ok=True)
    sheet.save(SHEET)
    print(f"\nsheet   {SHEET}\n")


def _seen(files: list[bytes]) -> NDArray[np.uint8]:
    images, _ = normalise_files(tf.constant(files, tf.string))
    seen: NDArray[np.uint8] = images.numpy()
    return seen


def _thumbnail(file: bytes) -> Image.Image:
    page = Image.open(io.BytesIO(file)).convert("RGBA")
    page.thumbnail((_CELL - 2, _CELL - 2))
    white = Image.new("RGBA", page.size, "white")
    return Image.alpha_composite(white, page).convert("RGB")


def _refusals(model: ServedModel) -> bool:
    """Print what each refusal costs; whether all were refused in time."""
    print(f"| refused | bytes | median ms | longest ms, of {_REFUSALS} |")
    print("| --- | --- | --- | --- |")
    before, in_time = _memory_from_now(), True
    for name, file in _refused().items():
        took = [_milliseconds(model, file) for _ in range(_REFUSALS)]
        in_time &= max(took) < MOST_MS
        print(f"| {name} | {len(file):,} | {statistics.median(took):.1f} | {max(took):.1f} |")
    print(f"\npeak memory grew by {_mib('VmHWM') - before:.1f} MiB; may take {MOST_MS:.0f} ms each")
    return in_time


def _refused() -> dict[str, bytes]:
    """What must be refused, by name."""
    page = Image.new("L", (28, 28), "white")
    png, jpeg = _saved(page, "PNG"), _saved(page, "JPEG")
    progressive = _saved(page, "JPEG", progressive=True)
    frame, scan = jpeg.index(b"\xff\xc0"), progressive.rindex(b"\xff\xda")
    scans = progressive[scan:-2] * MAX_SCANS
    return {
        "PNG a pixel too wide": png[:16] + struct.pack(">II", MAX_SIDE + 1, 1) + png[24:],
        "JPEG a pixel too high": jpeg[: frame + 5]
        + struct.pack(">HH", MAX_SIDE + 1, 28)
        + jpeg[frame + 9 :],
        "JPEG of too many scans": progressive[:-2] + scans + progressive[-2:],
        "PNG of 1 MiB + 1 byte": png + bytes(MAX_FILE_BYTES + 1 - len(png)),
        "PNG, truncated": png[:-20],
        **{kind: _saved(page, kind) for kind in ("GIF", "BMP", "WebP")},
        "text": b"seven",
        "nothing": b"",
    }


def _saved(page: Image.Image, kind: str, **options: bool) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, kind, **options)
    return buffer.getvalue()


def _milliseconds(model: ServedModel, file: bytes) -> float:
    start = time.perf_counter()
    try:
        model.run("encoded", np.array([file], dtype=object))
    except tf.errors.InvalidArgumentError:
        return (time.perf_counter() - start) * 1e3
    raise SystemExit("not refused")


def _memory_from_now() -> float:
    """MiB in use; the kernel counts the peak from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _mib("VmRSS")


def _mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
