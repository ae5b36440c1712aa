"""Pages with more than a digit, several or none, blank or turned: rows of the table."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.digits.data.sources import Split
from export.publication.serving_path import ServedModel
from tests.export.digits.graph import pages
from tests.export.digits.graph.redrawn import REDRAWINGS, redraw
from tests.ways_up import ORIENTATION, STORED
from tfserving_client.digits.images import prepare

SURE, UNSURE = 0.9, 0.5  # probabilities: at least this is sure; at most this is not
LEAST_RIGHT, MOST_SURELY_WRONG = 0.95, 0.005  # of all pages
_WRONG = f"wrong with at least {SURE * 100:.0f} %"
_DIGITS, _PAGES = 50, 40  # pages of a kind, with one digit and with another number of them


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; without a limit it only tells."""

    what: str
    measured: str
    limit: str = "–"
    holds: bool = True

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.measured} | {self.limit}{'' if self.holds else ' **missed**'} |"
        )


def percent(share: float) -> str:
    """A share in 0..1, as the table shows it."""
    return f"{100 * share:.2f} %"


def digits_on_pages(model: ServedModel, test: Split) -> Iterator[Row]:
    """What becomes of digits on each kind of page."""
    images, labels = test.images[:_DIGITS], test.labels[:_DIGITS]
    for title, kinds in (("known", pages.KNOWN), ("other", pages.OTHER)):
        right = surely_wrong = 0
        for name, page in kinds.items():
            probabilities = _asked(model, pages.draw(images, page))
            is_right = probabilities.argmax(axis=1) == labels
            sure = int((~is_right & (probabilities.max(axis=1) >= SURE)).sum())
            yield Row(f"page: {name}", f"{is_right.sum()} of {len(labels)} right, {sure} {_WRONG}")
            right, surely_wrong = right + int(is_right.sum()), surely_wrong + sure
        count = len(kinds) * len(labels)
        least, most = round(LEAST_RIGHT * count), round(MOST_SURELY_WRONG * count)
        yield Row(
            f"pages, {title} kinds",
            f"{right:,} of {count:,} right, {surely_wrong} {_WRONG}",
            f"at least {least:,} right, at most {most} {_WRONG}",
            right >= least and surely_wrong <= most,
        )


def no_single_digit(model: ServedModel, test: Split) -> Iterator[Row]:
    """How many answers are sure of what is not one digit."""
    for name, files in _without(test):
        probabilities = _asked(model, files)
        sure = int((probabilities.max(axis=1) > UNSURE).sum())
        yield Row(
            f"not one digit: {name}",
            f"{sure} of {len(probabilities)} above {UNSURE}",
            "0",
            not sure,
        )
    stacked = _asked(model, pages.several(test.images[: _PAGES * 2], 2, stacked=True))
    sure = int((stacked.max(axis=1) > UNSURE).sum())
    yield Row(
        "not one digit: 2 digits, one below the other", f"{sure} of {len(stacked)} above {UNSURE}"
    )


def blank_pages(model: ServedModel) -> Iterator[Row]:
    """The highest probability of blank pages."""
    for name, file in blanks().items():
        highest = float(_asked(model, [file]).max())
        yield Row(
            f"blank page, {name}: the highest probability",
            f"{highest:.2f}",
            "0.10",
            highest < 0.1 + 1e-6,
        )


def ways_up(model: ServedModel, test: Split) -> Iterator[Row]:
    """Photographs as cameras store them, as files and as PIL images, as the client sends them."""
    upright = [
        Image.open(io.BytesIO(file)).convert("L")
        for file in redraw(test.images[:_DIGITS], REDRAWINGS["150 px"])
    ]
    want = _asked(model, map(_saved, upright)).argmax(axis=1)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        files = [
            _saved(STORED[orientation](image), "JPEG", exif=exif, quality=95) for image in upright
        ]
        for kind, given in (("file", files), ("PIL image", _opened(files))):
            got = _asked(model, prepare(given).values).argmax(axis=1)
            same = int((got == want).sum())
            yield Row(
                f"EXIF orientation {orientation}, as a {kind}: read as when upright",
                f"{same} of {len(want)}",
                f"at least {_DIGITS - 1} of {_DIGITS}",
                same >= len(want) - 1,
            )


def _opened(files: Iterable[bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(file)) for file in files]


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


def _saved(page: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, kind, **options)
    return buffer.getvalue()
