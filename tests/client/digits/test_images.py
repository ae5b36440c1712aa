from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from tfserving_client import InvalidInput
from tfserving_client.digits.images import prepare
from tfserving_client.digits.pictures import MAX_FILE_BYTES

PNG = b"\x89PNG\r\n\x1a\n and the rest"
JPEG = b"\xff\xd8\xff and the rest"
RNG = np.random.default_rng(0)


class Upload:
    """What web frameworks of coroutines hand out."""

    async def read(self, _: int = -1) -> bytes:
        return PNG


@pytest.mark.parametrize(
    "shape",
    [(28, 28), (28, 28, 1), (784,), (3, 28, 28), (3, 28, 28, 1), (3, 1, 28, 28), (3, 784)],
)
def test_integers_of_every_understood_shape_go_to_serving_default(shape: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape)).reshape(shape) % 256
    batch = prepare(images)
    assert (batch.signature, batch.alias) == ("serving_default", "images")
    assert isinstance(batch.values, np.ndarray)
    assert batch.values.dtype == np.uint8
    assert batch.values.shape == (3 if shape[0] == 3 else 1, 28, 28)
    assert np.array_equal(batch.values.ravel(), images.ravel())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_go_to_predict_images(dtype: Any) -> None:
    images = np.linspace(0, 1, 2 * 784).reshape(2, 28, 28).astype(dtype)
    batch = prepare(images)
    assert (batch.signature, batch.alias) == ("predict_images", "images")
    assert isinstance(batch.values, np.ndarray)
    assert batch.values.dtype == np.float32
    assert np.array_equal(batch.values, images.reshape(2, 784).astype(np.float32))


def test_nested_lists_are_arrays() -> None:
    assert prepare([[[7] * 28] * 28] * 2).signature == "serving_default"
    assert prepare([[[0.5] * 28] * 28] * 2).signature == "predict_images"
    assert prepare([np.zeros((28, 28), np.uint8)] * 2).signature == "serving_default"


def test_bools_are_ink() -> None:
    ink = _digit() > 0
    for images in (ink, ink.tolist(), ink.reshape(784)):
        batch = prepare(images)
        assert batch.signature == "serving_default"
        assert np.array_equal(np.asarray(batch.values).reshape(28, 28), _digit())
    with pytest.raises(InvalidInput, match="dark ink on light paper"):
        prepare(~ink)


@pytest.mark.parametrize("make", [np.array, pandas.Series, tuple])
def test_pictures_in_arrays_and_series(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(PNG)
    assert prepare(make([str(path)] * 2)).values == [PNG, PNG]


def test_arrays_in_series() -> None:
    batch = prepare(pandas.Series([_digit(), _digit()]))
    assert (batch.signature, len(batch)) == ("serving_default", 2)


def test_rows_of_pandas() -> None:
    table = pandas.DataFrame(np.stack([_digit().ravel()] * 3))
    for rows, n in ((table, 3), (table.iloc[0], 1), (table.iloc[0].astype(object), 1)):
        batch = prepare(rows)
        assert np.array_equal(np.asarray(batch.values), [_digit()] * n)


def test_open_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        assert prepare([io.BytesIO(JPEG), file]).values == [JPEG, PNG]
        file.seek(0)
        assert prepare(file).values == [PNG]


def test_uint8_is_not_copied() -> None:
    images = np.zeros((5, 28, 28), np.uint8)
    assert np.shares_memory(prepare(images).values, images)


def test_pictures_of_every_kind_go_to_encoded(tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(PNG)
    picture = Image.new("L", (28, 28))
    batch = prepare([path, str(path), JPEG, bytearray(PNG), memoryview(PNG), picture])
    assert (batch.signature, batch.alias) == ("encoded", "image_bytes")
    assert isinstance(batch.values, list)
    assert batch.values[:5] == [PNG, PNG, JPEG, PNG, PNG]
    assert Image.open(io.BytesIO(batch.values[5])).size == (28, 28)
    assert prepare(path).values == prepare(PNG).values == [PNG]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((27, 28), np.uint8), "(27, 28)"),
        (np.zeros((2, 28, 28, 3), np.uint8), "(2, 28, 28, 3)"),
        (np.zeros(785, np.uint8), "is one column of the 785 the label?"),
        (np.zeros((28, 28, 3), np.uint8), "of a picture with colours pass the file, or a PIL"),
        (np.zeros((0, 28, 28), np.uint8), "hold no image"),
        ([], "hold no image"),
        (5, "images are an int"),
        (np.full((28, 28), 256), "256"),
        (np.full((28, 28), -1), "-1"),
        (np.full((28, 28), 255.0), "divide by 255"),
        (np.full((28, 28), -0.1), "-0.1"),
        (np.full((28, 28), np.nan), "nan"),
        (np.full((28, 28), np.inf), "inf"),
        ({"a.png", "b.png"}, "images are a set, which has no order for the answers; pass a list"),
        (iter(["a.png"]), "images are a list_iterator; pass a list, or the whole to classify_many"),
        ((path for path in ["a.png"]), "images are a generator; pass a list, or the whole to cl"),
        (io.StringIO("text"), "image 0 is a file opened for text; open it for bytes, with mode"),
        (io.BytesIO(), "image 0 is an open file with nothing left to read; `seek(0)` first"),
        ([io.BytesIO(PNG), io.BytesIO(b"GIF89a")], "image 1 is no PNG or JPEG"),
        ("http://a/b.png", "URLs are not fetched; pass the picture's bytes"),
        (Upload(), "image 0 is read by a coroutine; pass `await file.read()`"),
        (np.array(["no/such.png"]), "'no/such.png' cannot be read"),
        (np.zeros((28, 28), complex), "complex"),
        (np.full((28, 28), "a"), "<U1"),
        ([[1, 2], [3]], "differ in shape"),
        (None, "images are a NoneType"),
        ({"a": 1}, "images are a dict"),
        (b"GIF89a", "no PNG or JPEG"),
        (b"", "is empty; expected a PNG or JPEG"),
        (PNG + b"x" * MAX_FILE_BYTES, "larger than"),
        ("no/such/file.png", "'no/such/file.png' cannot be read: No such file"),
        ("tests", "'tests' is a folder, not a file"),
        ("", "'' cannot be read: No such file"),
        (np.ma.masked_equal(np.zeros((28, 28), int), 0), "masked pixels"),
        ("a\0b", "cannot be read"),
        ([PNG, 5], "image 1 is an int"),
        (Image.new("F", (5, 5)), "cannot be written as PNG"),
        (Image.new("F", (600, 5)), "cannot be written as PNG"),
    ],
)
def test_anything_else_is_refused_with_its_name_and_value(images: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        prepare(images)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def _digit() -> np.ndarray[Any, Any]:
    """A bar of forty pixels, white on black."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 13:15] = 255
    return image


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (_digit() // 255, "pixels of dtype uint8 lie in 0..1; expected 0..255: multiply by 255"),
        ((_digit() // 255).astype(int), "pixels of dtype uint8 lie in 0..1; expected 0..255"),
        ((_digit() // 255).tolist(), "lie in 0..1; expected 0..255: multiply by 255, or pass fl"),
        (_digit() / 255 / 255, "of dtype float64 lie in 0..0.00392; expected 0..1: divided by 255"),
        (
            255 - _digit(),
            "image 0 is dark ink on light paper; arrays are white ink on black, as in",
        ),
        (1 - _digit() / 255, "in MNIST: pass 1 - images, or the picture's file"),
        (np.stack([_digit(), 255 - _digit()]).reshape(2, 784), "image 1 is dark ink on light"),
        (255 - _digit() // 255 * 140, "image 0 is dark ink"),  # pencil
    ],
)
def test_a_convention_that_is_not_the_models_is_named(images: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        prepare(images)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "images",
    [
        _digit(),
        _digit() // 8,
        _digit() / 255,
        np.zeros((28, 28), np.uint8),
        np.full((28, 28), 255, np.uint8),
        RNG.integers(0, 256, (1000, 28, 28), np.uint8),
        RNG.random((1000, 28, 28)),
    ],
)
def test_what_may_be_meant_is_taken(images: Any) -> None:
    assert len(prepare(images)) == (1 if images.ndim == 2 else 1000)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "without a PNG or JPEG; it holds nothing"),
        (["a.tif", "b.tif", "c.TIF", "notes", "._x.png"], "; it holds 3 .tif, 1 without an ending"),
        (["a.png", "b.txt"], "; name the pictures in it"),
    ],
)
def test_a_folder_says_what_it_holds(names: list[str], words: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InvalidInput, match=f"'{tmp_path}' is a folder, not a file") as refusal:
        prepare(tmp_path)
    assert words in str(refusal.value)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Reading one could take for ever, whatever the timeout."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="is not a file"):
        prepare(tmp_path / "pipe")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_every_common_mode(mode: str) -> None:
    batch = prepare(Image.new("RGB", (5, 5), "white").convert(mode))
    assert Image.open(io.BytesIO(batch.values[0])).convert("RGB").getpixel((2, 2)) == (255,) * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.astype(">i4"),
        lambda images: images[:, ::-1, ::-1],
        lambda images: np.asfortranarray(images),
        lambda images: images.astype(object).tolist(),
    ],
)
def test_memory_layout_and_byte_order_do_not_matter(change: Callable[[Any], Any]) -> None:
    images = RNG.integers(0, 256, (3, 28, 28))
    values = prepare(change(images)).values
    assert isinstance(values, np.ndarray)
    assert np.array_equal(values, np.asarray(change(images)))


def test_one_bad_pixel_among_many_is_found() -> None:
    images = np.zeros((1000, 784), np.float32)
    images[617, 300] = np.nan
    with pytest.raises(InvalidInput):
        prepare(images)
