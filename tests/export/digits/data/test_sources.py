from __future__ import annotations

import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.digits.data import sources as data
from export.errors import InputError
from export.npz import MOST_BYTES

RNG = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "x_train": RNG.integers(0, 256, (24, 28, 28), np.uint8),
    "y_train": RNG.integers(0, 10, 24, np.uint8),
    "x_test": RNG.integers(0, 256, (5, 28, 28), np.uint8),
    "y_test": RNG.integers(0, 10, 5, np.uint8),
}
IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def _idx(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    return path


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for key, array in ARRAYS.items():
        name = IDX_NAMES[key]
        if key == "x_train":
            (folder / f"{name}.gz").write_bytes(gzip.compress(_idx(array)))
        else:
            (folder / name).write_bytes(_idx(array))
    return folder


def test_npz_and_idx_hold_the_same_data(npz: Path, idx_folder: Path) -> None:
    from_npz, from_idx = data.load(str(npz)), data.load(str(idx_folder))
    assert (from_npz.name, from_idx.name) == ("mine", "folder")
    assert from_npz.sha256 == from_idx.sha256
    for dataset in (from_npz, from_idx):
        assert np.array_equal(dataset.train.images, ARRAYS["x_train"][:22])
        assert np.array_equal(dataset.validation.images, ARRAYS["x_train"][22:])
        assert np.array_equal(dataset.validation.labels, ARRAYS["y_train"][22:])
        assert np.array_equal(dataset.test.images, ARRAYS["x_test"])


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"x_train": a["x_train"][..., None], "x_test": a["x_test"][..., None]},
        lambda a: {key: a[key].reshape(-1, 784) for key in ("x_train", "x_test")},
        lambda a: {key: a[key].astype(np.int64) for key in a},
        lambda a: {key: a[key][:, None] for key in ("y_train", "y_test")},
        lambda a: {key: np.eye(10)[a[key]] for key in ("y_train", "y_test")},
        lambda a: {key: np.eye(10, dtype=bool)[a[key]] for key in ("y_train", "y_test")},
    ],
)
def test_every_common_form_of_the_same_data_is_the_same(
    npz: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    np.savez(tmp_path / "other.npz", **{**ARRAYS, **change(ARRAYS)})
    assert data.load(str(tmp_path / "other.npz")).sha256 == data.load(str(npz)).sha256


def test_the_hash_is_of_the_contents(npz: Path, tmp_path: Path) -> None:
    other = dict(ARRAYS, y_test=(ARRAYS["y_test"] + 1) % 10)
    np.savez(tmp_path / "other.npz", **other)
    np.savez_compressed(tmp_path / "compressed.npz", **ARRAYS)
    sha256 = data.load(str(npz)).sha256
    assert data.load(str(tmp_path / "compressed.npz")).sha256 == sha256
    assert data.load(str(tmp_path / "other.npz")).sha256 != sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"x_train": ARRAYS["x_train"].astype(np.float32)},
            "x_train is float32 (24, 28, 28); expected uint8 (n, 28, 28)",
        ),
        ({"x_train": ARRAYS["x_train"][:, :27]}, "x_train is uint8 (24, 27, 28); expected"),
        ({"x_test": np.zeros((5, 32, 32), np.uint8)}, "x_test is uint8 (5, 32, 32); expected"),
        (
            {"x_test": ARRAYS["x_test"].astype(np.int64) - 1},
            "x_test is int64; expected pixels 0..255; it holds -1..254",
        ),
        ({"x_test": np.uint8(0)}, "x_test is uint8 (); expected"),
        (
            {"x_test": ARRAYS["x_test"][:0], "y_test": ARRAYS["y_test"][:0]},
            "x_test holds 0 images; expected at least 2",
        ),
        ({"y_train": ARRAYS["y_train"][:9]}, "y_train is uint8 (9,); expected integers (24,)"),
        (
            {"y_train": np.eye(10)[ARRAYS["y_train"]] + np.eye(10)[0]},
            "y_train is float64 (24, 10); expected integers",
        ),
        ({"y_test": ARRAYS["y_test"].astype(float)}, "y_test is float64 (5,); expected integers"),
        ({"y_test": np.array([0, 1, 2, 3, 10])}, "y_test holds labels 0..10; expected 0..9"),
        ({"y_test": np.array([0, 1, 2, 3, -1])}, "y_test holds labels -1..3; expected 0..9"),
    ],
)
def test_wrong_arrays_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{**ARRAYS, **change})
    assert _refusal(path).startswith(f"{path}: {words}")


def test_an_npz_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    harm = np.array([_Harm()] * 5, dtype=object)
    np.savez(path, **{**ARRAYS, "x_test": harm})
    assert "Object arrays cannot be loaded" in _refusal(path)
    path.write_bytes(pickle.dumps(_Harm()))
    assert "not a readable .npz" in _refusal(path)


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, x_train=ARRAYS["x_train"], x_test=ARRAYS["x_test"])
    assert _refusal(path) == (
        f"{path} lacks y_train, y_test; expected arrays x_train, y_train, x_test, y_test, "
        "and it holds x_train, x_test"
    )


@pytest.mark.parametrize("keep", [0, 10, 1000, -1, -30])
def test_a_truncated_npz_is_refused(npz: Path, keep: int) -> None:
    npz.write_bytes(npz.read_bytes()[:keep])
    assert _refusal(npz).startswith(f"{npz} is not a readable .npz of plain arrays: ")


def test_an_npz_with_a_wrong_byte_is_refused(npz: Path) -> None:
    content = bytearray(npz.read_bytes())
    content[1000] ^= 1
    npz.write_bytes(content)
    assert "Bad CRC-32 for file 'x_train.npy'" in _refusal(npz)


def test_a_bare_array_is_refused(npz: Path) -> None:
    with npz.open("wb") as file:
        np.save(file, ARRAYS["x_test"])
    assert "not a readable .npz of plain arrays: File is not a zip file" in _refusal(npz)


def test_an_npz_that_may_not_be_read_is_refused(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def may_not(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", may_not)
    assert _refusal(npz) == f"{npz} cannot be read: Permission denied"


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (
            _header((MOST_BYTES + 1,)),
            "declares (4294967297,), 4294967297 bytes; expected at most",
        ),
        (_header((10**30, 28, 28)), "bytes; expected at most 4294967296"),
        (_header((-1, 28, 28)), "declares (-1, 28, 28), -784 bytes, and holds 0"),
        (_header((1, 28, 28)) + bytes(783), "declares (1, 28, 28), 784 bytes, and holds 783"),
        (_header((1, 28, 28)) + bytes(785), "declares (1, 28, 28), 784 bytes, and holds 785"),
        (_header((0, 10**30, 28)), "not a readable .npz"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 4, "x_train has .npy version (2, 0); expected (1, 0)"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((   ", "not a readable .npz"),
        (b"no array", "not a readable .npz"),
        (b"", "not a readable .npz"),
    ],
)
def test_lying_headers_are_refused_and_nothing_is_allocated(
    npz: Path, member: bytes, words: str
) -> None:
    with zipfile.ZipFile(npz, "w") as archive:
        for key in ARRAYS:
            archive.writestr(f"{key}.npy", member)
    assert words in _refusal(npz, allocating=1 << 20)


def test_an_npz_is_inflated_no_further_than_it_declares(npz: Path) -> None:
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w") as file:
            file.write(_header((1, 28, 28)))
            file.write(bytes(4 << 20))
        for key in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", _header((1,)))
    words = f"x_train declares (1, 28, 28), 784 bytes, and holds {4 << 20}"
    assert words in _refusal(npz, allocating=1 << 20)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_of_another_compression_is_refused(npz: Path, method: int) -> None:
    with zipfile.ZipFile(npz, "w", method) as archive:
        for key in ARRAYS:
            archive.writestr(f"{key}.npy", b"")
    assert f"x_train is compressed by method {method}; expected numpy's" in _refusal(npz)


@pytest.mark.parametrize(
    ("key", "array", "words"),
    [
        ("x_test", np.zeros((5, 32, 32), np.uint8), "is uint8 (5, 32, 32); expected uint8 (n, 28,"),
        ("x_test", np.zeros((0, 28, 28), np.uint8), "is uint8 (5,); expected integers (0,)"),
        ("y_test", np.zeros(4, np.uint8), "is uint8 (4,); expected integers (5,), one for each"),
        ("y_test", np.array([0, 1, 2, 3, 10], np.uint8), "holds labels 0..10; expected 0..9"),
    ],
)
def test_wrong_idx_arrays_are_refused_by_the_name_of_their_file(
    idx_folder: Path, key: str, array: np.ndarray[Any, Any], words: str
) -> None:
    (idx_folder / IDX_NAMES[key]).write_bytes(_idx(array))
    assert words in _refusal(idx_folder)
    named = "y_test" if "integers" in words else key  # labels that do not match their images
    assert _refusal(idx_folder).startswith(str(idx_folder / IDX_NAMES[named]))


def test_an_empty_idx_set_is_refused(idx_folder: Path) -> None:
    for key in ("x_test", "y_test"):
        (idx_folder / IDX_NAMES[key]).write_bytes(_idx(ARRAYS[key][:0]))
    path = idx_folder / IDX_NAMES["x_test"]
    assert _refusal(idx_folder) == f"{path} holds 0 images; expected at least 2"


def test_a_missing_idx_file_is_named(idx_folder: Path) -> None:
    (idx_folder / "train-images-idx3-ubyte.gz").unlink()
    name = "train-images-idx3-ubyte"
    assert _refusal(idx_folder) == (
        f"{idx_folder} holds neither {name} nor {name}.gz; it holds t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte, train-labels-idx1-ubyte"
    )


def _refusal(source: Path, allocating: int | None = None) -> str:
    """The sentence with which the data is refused, with at most so many bytes taken meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as refusal:
            data.load(str(source))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert allocating is None or peak < allocating
    return str(refusal.value)


def test_no_such_path_is_refused() -> None:
    with pytest.raises(InputError, match="no-such-thing: no such file or folder"):
        data.load("no-such-thing")


def test_the_genuine_mnist_has_the_expected_hash(mnist: Path | None) -> None:
    if mnist is None:
        pytest.skip("MNIST is not at hand; MNIST_NPZ names it")
    dataset = data.load(str(mnist))
    assert dataset.sha256 == data.MNIST_SHA256
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [55000, 5000, 10000]
