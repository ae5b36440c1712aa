"""Measure the signature `encoded`, and hold it to its limits: `make bench-encoded`.

`python -m tests.bench.encoded [VERSION_FOLDER]` prints one table in Markdown: accuracy by
distortion and page, pages without a single digit, blank ones of each bit depth, every way up,
refusals, and what a picture takes against the newest version of the checkout that `BEFORE` names.
It writes to build/encoded.png for each distortion some redrawn pages, each beside the 28×28 that
the network sees. Exit status 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import struct
import time
from collections.abc import Iterator, Sequence
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
from tests.bench.encoded_pages import (
    Row,
    blank_pages,
    digits_on_pages,
    no_single_digit,
    percent,
    ways_up,
)
from tests.conftest import real_mnist
from tests.export.digits.graph.redrawn import REDRAWINGS, redraw

SHEET = Path("build/encoded.png")
BEFORE = os.environ.get("BEFORE")
MOST_MS = 50.0
MOST_OF_BEFORE = 1.3
_SHOWN, _CELL, _NAME = 8, 84, 190  # pages a row; pixels of a picture and of the row's name
_REFUSALS, _PAIRS = 50, 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.encoded", description=__doc__)
    parser.add_argument("version", type=Path, nargs="?", help="default: the newest of models/mnist")
    data_help = "as for python -m export (default: the genuine MNIST)"
    parser.add_argument("--data", default=str(real_mnist() or "mnist"), help=data_help)
    parser.add_argument("--images", type=int, default=500, help="test images (default: 500)")
    options = parser.parse_args(arguments)
    whole = data.load(options.data).test
    chosen = np.random.default_rng(0).permutation(len(whole))[: options.images]
    test = data.Split(whole.images[chosen], whole.labels[chosen])
    _write_sheet(test.images[:_SHOWN])
    print("| what | measured | limit |\n| --- | --- | --- |")
    held = True
    with ServedModel(options.version or _newest(Path("models"))) as model:
        for row in itertools.chain(
            _distortions(model, test),
            digits_on_pages(model, test),
            no_single_digit(model, test),
            blank_pages(model),
            ways_up(model, test),
            _refusals(model),
            _times(model, test) if BEFORE else (),
        ):
            print(row, flush=True)
            held &= row.holds
    return 0 if held else 1


def _newest(models: Path) -> Path:
    versions = Repository(models, "mnist").versions()
    if not versions:
        raise SystemExit(f"{models}/mnist holds no version; make one with `python -m export`")
    return versions[max(versions)]


def _distortions(model: ServedModel, test: data.Split) -> Iterator[Row]:
    plain = model.run("serving_default", test.images)["digits"] == test.labels
    yield Row(f"plain, {len(test)} test images", percent(plain.mean()))
    for name, how in REDRAWINGS.items():
        files = np.array(list(redraw(test.images, how)), dtype=object)
        right = model.run("encoded", files)["digits"] == test.labels
        lost, won = (plain & ~right).sum(), (right & ~plain).sum()
        below, most = (plain.mean() - right.mean()) * 100, how.margin * 100
        yield Row(
            f"{name} ({how.reason})" if how.reason else name,
            f"{percent(right.mean())}, {below:.1f} points below plain: {lost} lost, {won} won",
            f"{most:.1f} points + chance",
            how.allows(int(lost), int(won), len(test)),
        )


def _times(model: ServedModel, test: data.Split) -> Iterator[Row]:
    """A picture in the graph, by turns with the build before."""
    with ServedModel(_newest(Path(BEFORE or "", "models"))) as before:
        for name in ("60 px", "150 px", "300 px", "600 px"):
            (file,) = redraw(test.images[:1], REDRAWINGS[name])
            picture = np.array([file], dtype=object)
            pairs = [(_seconds(model, picture), _seconds(before, picture)) for _ in range(_PAIRS)]
            ours, theirs = (statistics.median(side) * 1e3 for side in zip(*pairs, strict=True))
            ratio = statistics.median(mine / peer for mine, peer in pairs)
            yield Row(
                f"one picture, {name}",
                f"{ours:.2f} ms, {theirs:.2f} before; ratio {ratio:.2f}",
                f"ratio {MOST_OF_BEFORE}",
                ratio <= MOST_OF_BEFORE,
            )


def _seconds(model: ServedModel, picture: NDArray[np.object_]) -> float:
    start = time.perf_counter()
    model.run("encoded", picture)
    return time.perf_counter() - start


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
    print(f"sheet   {SHEET}\n")


def _seen(files: list[bytes]) -> NDArray[np.uint8]:
    images, _ = normalise_files(tf.constant(files, tf.string))
    seen: NDArray[np.uint8] = images.numpy()
    return seen


def _thumbnail(file: bytes) -> Image.Image:
    page = Image.open(io.BytesIO(file)).convert("RGBA")
    page.thumbnail((_CELL - 2, _CELL - 2))
    white = Image.new("RGBA", page.size, "white")
    return Image.alpha_composite(white, page).convert("RGB")


def _refusals(model: ServedModel) -> Iterator[Row]:
    before = _memory_from_now()
    for name, file in _refused().items():
        took = [_milliseconds(model, file) for _ in range(_REFUSALS)]
        yield Row(
            f"time to refuse a file: {name}",
            f"{max(took):.1f} ms, the longest of {_REFUSALS}; median {statistics.median(took):.1f}",
            f"{MOST_MS:.0f} ms",
            max(took) <= MOST_MS,
        )
    yield Row("peak memory while files are refused", f"{_mib('VmHWM') - before:.1f} MiB more")


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
