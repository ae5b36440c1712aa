from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageOps

from export.digits.data.sources import Dataset
from export.digits.graph.decoding import MAX_FILE_BYTES, MAX_SCANS, MAX_SIDE, decode
from export.digits.graph.preprocessing import normalise_files
from tests.ways_up import ORIENTATION

Normalise = Callable[[list[bytes]], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def normalise() -> Normalise:
    return lambda files: normalise_files(tf.constant(files, tf.string))[0].numpy()


def _file(
    picture: NDArray[Any], mode: str | None = None, kind: str = "PNG", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(picture.astype(np.uint8))
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def _drawn(image: NDArray[np.uint8], side: int, *, top: int = 0, left: int = 0) -> NDArray[Any]:
    """The digit in dark ink on a light page, `side` × `side`, moved by whole pixels."""
    scale = side // 2
    digit = np.asarray(Image.fromarray(image).resize((scale, scale), Image.Resampling.BICUBIC))
    page = np.full((side, side), 230.0)
    start_row, start_column = (side - scale) // 2 + top, (side - scale) // 2 + left
    page[start_row : start_row + scale, start_column : start_column + scale] -= digit * 0.8
    return page


def _likeness(got: NDArray[np.uint8], want: NDArray[np.uint8]) -> float:
    """Cosine between two images: 1 is the same up to brightness."""
    a, b = got.astype(float).ravel(), want.astype(float).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_mnists_own_images_come_back_as_they_are(digits: Dataset, normalise: Normalise) -> None:
    images = digits.test.images[:50]
    got = normalise([_file(image) for image in images])
    assert got.shape == (50, 28, 28)
    assert got.dtype == np.uint8
    # Only ink weaker than a tenth may be lost, at the digit's edge.
    assert np.abs(got.astype(int) - images).max() <= 25


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "L", {}),
        ("PNG", "1", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "L", {}),
        ("JPEG", "RGB", {"quality": 60}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
    ],
)
def test_every_kind_of_png_and_jpeg(
    digits: Dataset, normalise: Normalise, kind: str, mode: str, options: dict[str, Any]
) -> None:
    image = digits.test.images[0]
    page = _drawn(image, 120)
    if mode == "1":
        page = np.where(page > 128, 255, 0)
    (got,) = normalise([_file(page, mode, kind, **options)])
    assert _likeness(got, image) > 0.9


@pytest.mark.parametrize("side", [60, 100, 300, 600, 1500])
def test_any_size_any_place_either_paper(digits: Dataset, normalise: Normalise, side: int) -> None:
    image = digits.test.images[3]
    page = _drawn(image, side, top=side // 9, left=-side // 7)
    for picture in (page, 255 - page):
        (got,) = normalise([_file(picture)])
        assert _likeness(got, image) > 0.9


def test_uneven_light(digits: Dataset, normalise: Normalise) -> None:
    image = digits.test.images[5]
    light = np.linspace(1.0, 0.5, 200)[:, np.newaxis] * np.linspace(1.0, 0.8, 200)
    even, uneven = normalise([_file(_drawn(image, 200)), _file(_drawn(image, 200) * light)])
    assert _likeness(uneven, even) > 0.95


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("colours", [2, 3, 4, 16, 17, 200])
def test_palettes_of_any_depth(
    digits: Dataset, normalise: Normalise, colours: int, transparent: bool
) -> None:
    image = digits.test.images[4]
    page = Image.fromarray(_drawn(image, 90).astype(np.uint8)).quantize(colours)
    buffer = io.BytesIO()
    paper = {"transparency": page.getpixel((0, 0))} if transparent else {}
    page.save(buffer, "PNG", **paper)
    (got,) = normalise([buffer.getvalue()])
    assert _likeness(got, image) > 0.85


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_coarse_grey_with_a_transparent_shade(
    digits: Dataset, normalise: Normalise, bits: int
) -> None:
    """PNG's tRNS chunk for grey: one shade, here the paper's, is transparent."""
    image = digits.test.images[4]
    most = (1 << bits) - 1
    shades = np.round((1 - image / 255.0) * most).astype(np.uint8)
    (got,) = normalise([_grey_png(shades, bits, shade=most)])
    assert _likeness(got, image) > (0.8 if bits == 1 else 0.85)


def _png(*chunks: bytes) -> bytes:
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_16_bit_png(digits: Dataset, normalise: Normalise) -> None:
    buffer = io.BytesIO()
    Image.fromarray((_drawn(digits.test.images[2], 90) * 257).astype(np.uint16)).save(buffer, "PNG")
    (got,) = normalise([buffer.getvalue()])
    assert _likeness(got, digits.test.images[2]) > 0.9


def test_transparency_is_white_paper(digits: Dataset, normalise: Normalise) -> None:
    image = digits.test.images[7]
    ink = np.zeros((28, 28, 4))
    ink[:, :, 3] = image  # black ink, as opaque as the digit is white
    (got,) = normalise([_file(ink)])
    assert _likeness(got, image) > 0.99


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_page_stays_blank(normalise: Normalise, level: int) -> None:
    (got,) = normalise([_file(np.full((90, 70), level))])
    assert not got.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_odd_shapes_are_no_errors(normalise: Normalise, shape: tuple[int, int]) -> None:
    picture = np.zeros(shape)
    picture[0, 0] = 255
    assert normalise([_file(picture)]).shape == (1, 28, 28)


@pytest.mark.parametrize("sigma", [3, 6, 10, 15])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_blank_page_of_grainy_paper_stays_blank(
    normalise: Normalise, kind: str, sigma: int
) -> None:
    grain = np.random.default_rng(0).normal(0, sigma, (200, 200))
    light = np.linspace(1.0, 0.6, 200)[:, np.newaxis] * np.linspace(1.0, 0.8, 200)
    (got,) = normalise([_file(np.clip(230 * light + grain, 0, 255), "L", kind)])
    assert not got.any()


def test_a_markers_stroke_is_worn_and_a_fine_pens_filled(normalise: Normalise) -> None:
    """A ring, whose hole and line would be lost at MNIST's size."""
    y, x = np.mgrid[-150:150, -150:150]
    radius = np.hypot(x, y)
    thick = 255.0 - 255 * ((radius > 45) & (radius < 110))
    thin = 255.0 - 255 * ((radius > 105) & (radius < 110))
    marker, pen = normalise([_file(thick), _file(thin)])
    assert marker[14, 14] == 0
    assert (marker > 128).sum() < 220  # of 260 that the ring fills
    assert (pen > 128).sum() > 60


def _said(orientation: int, order: str) -> bytes:
    """EXIF data of one entry, in either byte order."""
    header = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, 1)
    return (
        b"Exif\0\0" + header + struct.pack(f"{order}HHIHHI", ORIENTATION, 3, 1, orientation, 0, 0)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_their_exif_data_say(
    orientation: int, kind: str, order: str
) -> None:
    shades = np.kron(np.arange(0, 240, 4).reshape(6, 10), np.ones((8, 8)))
    file = _file(shades, "L", kind, exif=_said(orientation, order))
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    got = decode(tf.constant(file), tf.constant(0)).numpy() * 255
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 3


def test_exif_data_cut_short_say_nothing() -> None:
    file = _file(np.eye(9) * 255, "L")
    for end in range(10, len(_said(6, ">"))):
        assert decode(tf.constant(file + _said(6, ">")[:end]), tf.constant(0)).shape == (9, 9)


def test_an_empty_batch(normalise: Normalise) -> None:
    assert normalise([]).shape == (0, 28, 28)


def _png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return _png(header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")


def _jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(_file(np.zeros((8, 8)), "L", "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _jpeg_of_scans(count: int) -> bytes:
    data = _file(np.zeros((8, 8)), "L", "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - data.count(b"\xff\xda")) + data[-2:]


GOOD = _file(np.eye(28) * 255)
LONG = GOOD + bytes(MAX_FILE_BYTES - len(GOOD))  # what follows a PNG's end is not looked at


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "is no PNG or JPEG"),
        (b"GIF89a" + bytes(100), "is no PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is no PNG or JPEG"),
        (LONG + b"\0", "is larger than] [1048576] [bytes:] [1048577"),
        (_png_that_claims(MAX_SIDE + 1, 1), "declares] [1 4097"),
        (_png_that_claims(1, MAX_SIDE + 1), "declares] [4097 1"),
        (_png_that_claims(0, 5), "declares] [5 0"),
        (_jpeg_that_claims(8, MAX_SIDE + 1), "declares] [4097 8"),
        (_jpeg_of_scans(MAX_SCANS + 1), "has] [65] [scans; a JPEG has at most] [64"),
        (GOOD[:60], "PNG"),
        (b"\xff\xd8\xff" + bytes(100), "JPEG"),
    ],
)
def test_what_would_hurt_is_refused_with_its_place_in_the_batch(
    normalise: Normalise, bad: bytes, words: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
        normalise([GOOD, bad])
    assert words in refusal.value.message
    if "[" in words:
        assert "[image] [1]" in refusal.value.message


@pytest.mark.parametrize(
    "file",
    [
        LONG,
        _file(np.eye(MAX_SIDE, 2) * 255),
        _file(np.eye(2, MAX_SIDE) * 255, kind="JPEG"),
        _jpeg_of_scans(MAX_SCANS),
    ],
)
def test_what_just_keeps_a_limit_is_read(normalise: Normalise, file: bytes) -> None:
    assert normalise([file]).shape == (1, 28, 28)


def _grey_png(rows: NDArray[np.uint8], bits: int, shade: int | None = None) -> bytes:
    """Shades of so many bits, uint8 [h, w]; one of them may be transparent (PNG's tRNS chunk)."""
    height, width = rows.shape
    packed = np.unpackbits(rows[..., np.newaxis], axis=2)[:, :, -bits:].reshape(height, -1)
    data = b"".join(b"\0" + np.packbits(row).tobytes() for row in packed)
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    transparent = [] if shade is None else [b"tRNS" + struct.pack(">H", shade)]
    return _png(header, *transparent, b"IDAT" + zlib.compress(data), b"IEND")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_decoded_shades_lie_in_0_to_1_at_every_depth(bits: int) -> None:
    most = (1 << bits) - 1
    shades = np.array([[0, most // 3, most]], np.uint8)
    grey = decode(tf.constant(_grey_png(shades, bits)), tf.constant(0)).numpy()
    np.testing.assert_allclose(grey, shades / most, atol=1e-5)
    grey = decode(tf.constant(_grey_png(shades, bits, shade=0)), tf.constant(0)).numpy()
    np.testing.assert_allclose(grey, np.where(shades == 0, 1.0, shades / most), atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(28, 28), (200, 150)])
def test_a_blank_page_is_blank_at_every_depth(
    normalise: Normalise, bits: int, shape: tuple[int, int]
) -> None:
    shades = sorted({0, (1 << bits) // 2, (1 << bits) - 1})
    files = [_grey_png(np.full(shape, shade, np.uint8), bits) for shade in shades]
    assert not normalise(files).any()
