"""Photographs: upright and small, with Pillow; and what is told without it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.client.conftest import ScriptedGrpc, Shell
from tests.ways_up import ORIENTATION, STORED
from tfserving_client import InvalidInput, Rejected
from tfserving_client.digits import pictures
from tfserving_client.digits.images import prepare
from tfserving_client.digits.pictures import MAX_FILE_BYTES, fault

RNG = np.random.default_rng(0)


def _without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.setitem(sys.modules, name, None)


def _seven(side: int = 60) -> Image.Image:
    """No two of its corners are alike."""
    pixels = np.full((side * 4 // 3, side), 230, np.uint8)
    pixels[: side // 6, : side // 2] = 20
    pixels[: side // 3, -side // 8 :] = 90
    return Image.fromarray(pixels)


def _file(image: Image.Image, kind: str = "JPEG", orientation: int | None = None) -> bytes:
    buffer = io.BytesIO()
    more: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if orientation is not None:
        more["exif"] = Image.Exif()
        more["exif"][ORIENTATION] = orientation
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def _sent(picture: Any) -> Image.Image:
    (data,) = prepare(picture).values
    return Image.open(io.BytesIO(data))


def _pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image.convert("L")).astype(np.int64)


def _noise(shape: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", STORED)
def test_what_is_redrawn_is_sent_upright(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    upright = _seven()
    file = _file(STORED[orientation](upright), kind, orientation)
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", len(file) - 1)
    for picture in (file, Image.open(io.BytesIO(file))):
        sent = _sent(picture)
        assert sent.size == upright.size
        assert np.abs(_pixels(sent) - _pixels(upright)).mean() < 4
        assert ORIENTATION not in sent.getexif() or orientation == 1  # nobody turns it again


@pytest.mark.parametrize("orientation", [None, 0, 1, 6, 9])
def test_files_are_sent_as_they_are(
    orientation: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph turns them."""
    files = [_file(_seven(), kind, orientation) for kind in ("JPEG", "PNG")]
    _without_pillow(monkeypatch)
    for file in files:
        (tmp_path / "photograph").write_bytes(file)
        assert prepare([file, tmp_path / "photograph"]).values == [file, file]


def test_without_pillow_a_photograph_is_refused_and_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "IMG_1.png"
    path.write_bytes(_file(_noise((700, 700, 3)), "PNG"))
    _without_pillow(monkeypatch)
    with pytest.raises(InvalidInput) as refusal:
        prepare(path)
    assert str(refusal.value) == (
        f"'{path}' is larger than 1,048,576 bytes, the most that is sent; `pip install pillow` "
        "lets this client do what is needed, or save it upright and 512 pixels wide before"
    )


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (_noise((900, 600, 3)), "PNG"),
        (_noise((900, 1200, 3)), "JPEG"),
        (_noise((600, 600, 4)), "PNG"),
        (_noise((1200, 1200)), "PNG"),
        (_noise((1200, 1200)).convert("P"), "PNG"),
        (Image.fromarray(RNG.integers(0, 65536, (800, 800), np.uint16)), "PNG"),
    ],
    ids=lambda value: getattr(value, "mode", value),
)
def test_a_photograph_is_sent_small(picture: Image.Image, kind: str) -> None:
    file = _file(picture, kind)
    assert len(file) > MAX_FILE_BYTES
    for item in (file, picture):
        (data,) = prepare(item).values
        sent = Image.open(io.BytesIO(data))
        assert len(data) < MAX_FILE_BYTES
        assert max(sent.size) == 512
        assert sent.width / sent.height == pytest.approx(picture.width / picture.height, abs=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_is_made_small_still_shows_the_same(mode: str) -> None:
    large = _seven(1500)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(large).astype(np.uint16) * 257)
    elif mode in {"LA", "RGBA"}:  # ink alone, on nothing
        picture = Image.new(mode, large.size)
        picture.putalpha(ImageOps.invert(large))
    else:
        picture = large.convert(mode)
    sent = _pixels(_sent(picture))
    want = _pixels(large.resize((384, 512), Image.Resampling.BOX))
    assert sent.shape == want.shape
    assert np.abs(sent - want).mean() < (20 if mode == "1" else 3)


def test_a_pictures_own_object_is_left_as_it_was() -> None:
    picture = Image.open(io.BytesIO(_file(_seven(900), orientation=6)))
    prepare(picture)
    assert (picture.size, picture.mode, picture.getexif()[ORIENTATION]) == ((900, 1200), "L", 6)


def test_more_pixels_than_pillow_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(_seven(60))
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", len(file) - 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80 // 2 - 1)  # it refuses twice as many
    with pytest.raises(InvalidInput, match="cannot be redrawn: Image size"):
        prepare(file)


def _files() -> tuple[bytes, bytes]:
    """A sound PNG and a sound JPEG, which has another within, as cameras put a thumbnail."""
    shades = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    png, jpeg = io.BytesIO(), io.BytesIO()
    Image.fromarray(shades).save(png, "PNG")
    Image.fromarray(shades[:20, :20]).save(jpeg, "JPEG")
    thumbnail = jpeg.getvalue()
    Image.fromarray(shades).save(jpeg := io.BytesIO(), "JPEG", comment=thumbnail)
    return png.getvalue(), jpeg.getvalue()


def test_what_is_wrong_within_a_file_is_found() -> None:
    png, jpeg = _files()
    assert (fault(png), fault(jpeg), fault(png + b"more"), fault(jpeg + b"more")) == ("",) * 4
    for cut in (8, 20, 100, len(png) // 2, len(png) - 1):
        assert fault(png[:cut]) == "a PNG cut off"
    for cut in (3, 20, len(jpeg) // 2, len(jpeg) - 1):
        assert fault(jpeg[:cut]) == "a JPEG cut off"
    assert fault(png[:60] + bytes([png[60] ^ 255]) + png[61:]) == "a PNG with a broken chunk"


ASSERTED = "assertion failed: [image] [2] "


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Invalid PNG. Failed to initialize decoder.", "image 3: a PNG cut off (model"),
        ("Invalid PNG data, size 99\n\t [[{{node a}}]]", "image 3: a PNG cut off (model"),
        (ASSERTED + "[declares] [20 5000] [pixels; a side has at most] [4096]\n\t [[{{node a}}]]",
         "image 2 is 20 by 5000 pixels large; a side has at most 4096 (model"),
        ("Unrecognized servable version label: new", "no version of model 'mnist' has the label"),
    ],
)  # fmt: skip
def test_a_broken_picture_is_told_by_its_place(
    shell: Shell, grpc_server: ScriptedGrpc, text: str, sentence: str
) -> None:
    png, jpeg = _files()
    grpc_server.behaviour = lambda *asked: asked[2].abort(grpc.StatusCode.INVALID_ARGUMENT, text)
    with shell(grpc_server.url) as digits, pytest.raises(Rejected) as failure:
        digits.classify([png, jpeg, png, png[:99], png])
    assert str(failure.value).startswith(sentence)
    assert text in failure.value.server_text
