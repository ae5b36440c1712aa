from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.digits.data import idx
from export.errors import InputError
from export.npz import MOST_BYTES

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
FILE = struct.pack(">IIII", 2051, 5, 28, 28) + IMAGES.tobytes()

_Write = Callable[[Path, bytes], Path]


def _plain(folder: Path, content: bytes) -> Path:
    path = folder / "images"
    path.write_bytes(content)
    return path


def _gzipped(folder: Path, content: bytes) -> Path:
    path = folder / "images.gz"
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture(params=[_plain, _gzipped])
def write(request: pytest.FixtureRequest) -> _Write:
    """Both ways in which a file may lie there."""
    written: _Write = request.param
    return written


def _refusal(path: Path, dimensions: int = 3, allocating: int | None = None) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refusal:
            idx.read(path, dimensions)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert allocating is None or peak < allocating
    return str(refusal.value)


def test_what_was_written_is_read(write: _Write, tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    assert idx.find(tmp_path, "images") == path
    array = idx.read(path, 3)
    assert array.dtype == np.uint8
    assert np.array_equal(array, IMAGES)


def test_an_array_larger_than_a_piece_is_read(write: _Write, tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), np.uint8)
    path = write(tmp_path, struct.pack(">IIII", 2051, 3000, 28, 28) + large.tobytes())
    assert np.array_equal(idx.read(path, 3), large)


@pytest.mark.parametrize(
    "place",
    [
        "train-images.idx3-ubyte",
        "train-images.idx3-ubyte.gz",
        "train-images-idx3-ubyte/train-images-idx3-ubyte",
        "train-images-idx3-ubyte/train-images.idx3-ubyte",
        "train-images.idx3-ubyte/train-images.idx3-ubyte",
        "raw/train-images-idx3-ubyte",
        "MNIST/raw/train-images-idx3-ubyte.gz",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_is_found_and_read_where_people_have_it(
    tmp_path: Path, place: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(FILE))
    assert idx.find(tmp_path, "train-images-idx3-ubyte") == path
    assert idx.read(path, 3).tobytes() == FILE[16:]


def test_the_plain_file_is_preferred_and_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither images nor images\.gz; it holds nothing$"):
        idx.find(tmp_path, "images")
    compressed = _gzipped(tmp_path, FILE)
    assert idx.find(tmp_path, "images") == compressed
    plain = _plain(tmp_path, FILE)
    assert idx.find(tmp_path, "images") == plain


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack(">I", 2049) + FILE[4:], "begins with magic number 2049; expected 2051"),
        (b"<html>a login page</html>", "begins with magic number 1013478509; expected 2051"),
        (FILE[:-1], "declares [5, 28, 28], 3920 bytes, and holds 3919"),
        (FILE[:16], "declares [5, 28, 28], 3920 bytes, and holds 0"),
        (FILE + b"\0", "declares [5, 28, 28], 3920 bytes, and holds more"),
        (FILE + FILE, "declares [5, 28, 28], 3920 bytes, and holds more"),
        (
            struct.pack(">IIII", 2051, 6, 28, 28) + FILE[16:],
            "declares [6, 28, 28], 4704 bytes, and holds 3920",
        ),
        (
            struct.pack(">IIII", 2051, 4, 28, 28) + FILE[16:],
            "declares [4, 28, 28], 3136 bytes, and holds more",
        ),
        (FILE[:10], "has 10 bytes; an IDX header alone has 16"),
        (FILE[:15], "has 15 bytes; an IDX header alone has 16"),
        (b"", "has 0 bytes; an IDX header alone has 16"),
    ],
)
def test_wrong_files_are_refused(write: _Write, tmp_path: Path, content: bytes, words: str) -> None:
    path = write(tmp_path, content)
    assert _refusal(path) == f"{path} {words}"


def test_labels_are_not_taken_for_images(write: _Write, tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    assert _refusal(path, 1) == f"{path} begins with magic number 2051; expected 2049"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (MOST_BYTES // 784 + 1, "4294967600 bytes; expected at most 4294967296"),
        (6, "4704 bytes, and holds 3920"),
    ],
)
def test_counts_past_what_a_file_holds_take_no_memory(
    write: _Write, tmp_path: Path, count: int, words: str
) -> None:
    path = write(tmp_path, struct.pack(">IIII", 2051, count, 28, 28) + FILE[16:])
    assert _refusal(path, allocating=2 << 20).endswith(words)


def test_gzip_is_inflated_no_further_than_it_declares(tmp_path: Path) -> None:
    path = _gzipped(tmp_path, FILE[:16] + bytes(4 << 20))
    assert _refusal(path, allocating=1 << 20).endswith("3920 bytes, and holds more")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda b: b[:-9], "Compressed file ended before the end-of-stream marker was reached"),
        (lambda b: b[:-8] + bytes(4) + b[-4:], "CRC check failed"),
        (lambda b: b[:10] + b"\xff" * 99, "Error -3 while decompressing data"),
        (lambda b: b[:-8], "Compressed file ended before the end-of-stream marker was reached"),
        (lambda b: b + b"junk", "Not a gzipped file (b'ju')"),
    ],
)
def test_a_broken_gzip_is_refused(
    tmp_path: Path, tamper: Callable[[bytes], bytes], words: str
) -> None:
    path = _gzipped(tmp_path, FILE)
    path.write_bytes(tamper(path.read_bytes()))
    refusal = _refusal(path)
    assert refusal.startswith(f"{path} cannot be read: ")
    assert words in refusal


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    for name in ("images", "labels.gz"):
        (tmp_path / name).mkdir()
        assert "Is a directory" in _refusal(tmp_path / name)
