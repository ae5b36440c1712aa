"""Pages with more than a digit, with several or none, through `encoded`: tables with limits."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.digits.data.sources import Split
from export.publication.serving_path import ServedModel
from tests.export.digits.graph import pages

SURE, UNSURE = 0.9, 0.5  # probabilities: at least this is sure; at most this is not
LEAST_RIGHT, MOST_SURELY_WRONG = 0.95, 0.005  # of all pages
_DIGITS, _PAGES = 50, 40  # pages of a kind, with one digit and with another number of them


def digits_on_pages(model: ServedModel, test: Split) -> bool:
    """Print what becomes of digits on each kind of page; whether the limits hold."""
    images, labels = test.images[:_DIGITS], test.labels[:_DIGITS]
    print(f"| page, with a digit | right of {len(labels)} | wrong with at least {SURE:.0%} |")
    print("| --- | --- | --- |")
    held = True
    for title, kinds in (("known", pages.KNOWN), ("other", pages.OTHER)):
        right = surely_wrong = 0
        for name, page in kinds.items():
            probabilities = _asked(model, pages.draw(images, page))
            is_right = probabilities.argmax(axis=1) == labels
            sure = int((~is_right & (probabilities.max(axis=1) >= SURE)).sum())
            print(f"| {name} | {is_right.sum()} | {sure} |", flush=True)
            right, surely_wrong = right + int(is_right.sum()), surely_wrong + sure
        count = len(kinds) * len(labels)
        least, most = round(LEAST_RIGHT * count), round(MOST_SURELY_WRONG * count)
        held &= right >= least and surely_wrong <= most
        limits = f"{right}, at least {least} | {surely_wrong}, at most {most}"
        print(f"| **{title}, of {count}** | {limits} |")
    return held


def no_single_digit(model: ServedModel, test: Split) -> bool:
    """Print how sure the answers are for what is not one digit, or none; whether limits hold."""
    print(f"\n| page, without a single digit | answers above {UNSURE} | limit |")
    print("| --- | --- | --- |")
    surest = 0
    for name, files in _without(test):
        probabilities = _asked(model, files)
        sure = int((probabilities.max(axis=1) > UNSURE).sum())
        print(f"| {name} | {sure} of {len(probabilities)} | 0 |", flush=True)
        surest = max(surest, sure)
    print("\n| blank page | highest probability | limit |\n| --- | --- | --- |")
    highest = 0.0
    for name, file in blanks().items():
        probability = float(_asked(model, [file]).max())
        print(f"| {name} | {probability:.2f} | 0.10 |", flush=True)
        highest = max(highest, probability)
    return surest == 0 and highest < 0.1 + 1e-6


def blanks() -> Mapping[str, bytes]:
    """A blank white page in every depth that a file may have, by name."""
    whites: dict[str, tuple[str, int | tuple[int, ...]]] = {
        "PNG, 1 bit": ("1", 1),
        "PNG, 8 bits": ("L", 255),
        "PNG, 16 bits": ("I;16", 65535),
        "PNG, colour": ("RGB", (250, 248, 240)),
        "PNG, transparent": ("RGBA", (0, 0, 0, 0)),
        "PNG, palette": ("P", 0),
    }
    files = {
        name: _saved(Image.new(mode, (200, 150), white)) for name, (mode, white) in whites.items()
    }
    for bits in (2, 4):
        page = Image.new("P", (200, 150), 0)
        page.putpalette([255] * 3 + [0] * 3)
        files[f"PNG, palette of {bits} bits"] = _saved(page, bits=bits)
    return files | {"JPEG": _saved(Image.new("L", (200, 150), 240), "JPEG")}


def _without(test: Split) -> Iterator[tuple[str, Iterable[bytes]]]:
    for count in (2, 3, 4):
        yield f"{count} digits", pages.several(test.images[: _PAGES * count], count)
    for name, drawings in pages.NOT_ONE_DIGIT.items():
        yield name, pages.without_digit(drawings, _PAGES)


def _asked(model: ServedModel, files: Iterable[bytes]) -> NDArray[np.float32]:
    answers: NDArray[np.float32] = model.run("encoded", np.array(list(files), dtype=object))[
        "probabilities"
    ]
    return answers


def _saved(page: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, kind, **options)
    return buffer.getvalue()
