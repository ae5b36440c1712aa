from __future__ import annotations

import gzip
import io
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import data
from export.errors import InputError

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
        ({"x_train": ARRAYS["x_train"].astype(np.float32)}, "x_train is float32"),
        ({"x_train": ARRAYS["x_train"][:, :27]}, "(24, 27, 28)"),
        ({"x_test": ARRAYS["x_test"][:0], "y_test": ARRAYS["y_test"][:0]}, "holds 0 images"),
        ({"y_train": ARRAYS["y_train"][:9]}, "y_train is uint8 (9,); expected integers (24,)"),
        ({"y_test": ARRAYS["y_test"].astype(float)}, "y_test is float64"),
        ({"y_test": np.full(5, 10)}, "labels 10..10"),
        ({"y_test": np.full(5, -1)}, "labels -1..-1"),
        ({"x_test": np.array([{"a": 1}] * 5, dtype=object)}, "Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{**ARRAYS, **change})
    with pytest.raises(InputError) as refusal:
        data.load(str(path))
    assert words in str(refusal.value)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{k: v for k, v in ARRAYS.items() if k != "y_test"})
    with pytest.raises(InputError, match=r"lacks an array: .*y_test"):
        data.load(str(path))


@pytest.mark.parametrize("keep", [0, 10, 1000, -1, -30])
def test_a_truncated_npz_is_refused(npz: Path, keep: int) -> None:
    npz.write_bytes(npz.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"mine\.npz"):
        data.load(str(npz))


def test_a_bare_array_and_a_lying_header_are_refused(npz: Path) -> None:
    with npz.open("wb") as file:
        np.save(file, ARRAYS["x_test"])
    with pytest.raises(InputError, match="no readable"):
        data.load(str(npz))
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 28, 28)}
    with zipfile.ZipFile(npz, "w") as archive, archive.open("x_train.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(InputError, match="no readable"):
        data.load(str(npz))


def test_members_that_are_no_arrays_are_refused(npz: Path) -> None:
    for content in (b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((   ", b""):
        with zipfile.ZipFile(npz, "w") as archive:
            for key in ARRAYS:
                archive.writestr(f"{key}.npy", content)
        with pytest.raises(InputError):
            data.load(str(npz))


@pytest.mark.parametrize(
    ("key", "tamper", "words"),
    [
        ("y_train", lambda b: b"\0\0\x09\x01" + b[4:], "magic number 2305; expected 2049"),
        ("x_test", lambda b: b[:-1], "holds 3919"),
        ("x_test", lambda b: b + b"\0", "holds 3921"),
        ("x_test", lambda b: b[:10], "has 10 bytes"),
        ("y_test", lambda b: b[:4] + struct.pack(">I", 4) + b[8:], "declares [4], 4 bytes"),
        ("x_test", lambda b: b[:8] + struct.pack(">II", 14, 56) + b[16:], "(5, 14, 56)"),
        ("y_test", lambda b: b[:-1] + b"\x0a", "expected 0..9"),
    ],
)
def test_wrong_idx_files_are_refused(
    idx_folder: Path, key: str, tamper: Callable[[bytes], bytes], words: str
) -> None:
    path = idx_folder / IDX_NAMES[key]
    path.write_bytes(tamper(path.read_bytes()))
    with pytest.raises(InputError) as refusal:
        data.load(str(idx_folder))
    assert words in str(refusal.value)


def test_a_broken_gzip_and_a_missing_file_are_refused(idx_folder: Path) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte in .* cannot be read"):
        data.load(str(idx_folder))
    path.unlink()
    with pytest.raises(InputError, match="neither train-images-idx3-ubyte nor"):
        data.load(str(idx_folder))


def test_no_such_path_is_refused() -> None:
    with pytest.raises(InputError, match="no-such-thing: no such file or folder"):
        data.load("no-such-thing")


def test_embedded_digits_look_as_mnist_was_made(digits: data.Dataset) -> None:
    assert [len(digits.train), len(digits.validation), len(digits.test)] == [1317, 120, 360]
    for image in digits.test.images:
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20  # the digit fills MNIST's box
        centre = np.array([rows, columns]) @ image[rows, columns] / image.sum()
        assert np.abs(centre - 14).max() <= 0.51  # and its mass is in the middle
        assert image.max() == 255


def test_every_digit_is_in_every_part(digits: data.Dataset) -> None:
    for part in (digits.train, digits.validation, digits.test):
        assert set(part.labels) == set(range(10))


class _DataServer:
    """Serves one file; `faults` are answered first, one a request."""

    def __init__(self) -> None:
        self.body = b""
        self.faults: list[tuple[int, bytes]] = []
        self.requests = 0
        self.url = ""


@pytest.fixture
def data_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_DataServer]:
    """Stands where MNIST is downloaded from; the "MNIST" expected is the small data here."""
    served = _DataServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests += 1
            status, body = served.faults.pop(0) if served.faults else (200, served.body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    buffer = io.BytesIO()
    np.savez(buffer, **ARRAYS)
    served.body = buffer.getvalue()
    (tmp_path / "expected.npz").write_bytes(served.body)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/mnist.npz"
    monkeypatch.setattr(data, "MNIST_URL", served.url)
    sha256 = data.load(str(tmp_path / "expected.npz")).sha256
    monkeypatch.setattr(data, "MNIST_SHA256", sha256)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_mnist_is_downloaded_once_into_kerass_cache(
    data_server: _DataServer, tmp_path: Path
) -> None:
    for _ in range(2):
        assert data.load("mnist").name == "mnist"
    assert data_server.requests == 1
    assert (tmp_path / "keras" / "datasets" / "mnist.npz").read_bytes() == data_server.body


def test_a_tampered_cache_is_downloaded_again(data_server: _DataServer, tmp_path: Path) -> None:
    cache = tmp_path / "keras" / "datasets" / "mnist.npz"
    cache.parent.mkdir(parents=True)
    np.savez(cache, **dict(ARRAYS, y_test=(ARRAYS["y_test"] + 1) % 10))
    data.load("mnist")
    assert data_server.requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        (404, b"no"),
        (503, b"later"),
        (200, b"cut off"),
        (200, b"<html>a hotel's login page</html>"),
    ],
)
def test_failed_downloads_leave_nothing_and_auto_falls_back_loudly(
    data_server: _DataServer,
    fault: tuple[int, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data_server.faults = [fault]
    with pytest.raises(InputError):
        data.load("mnist")
    data_server.faults = [fault]
    dataset = data.load("auto")
    assert dataset.name == "digits"
    assert "embedded digits" in dataset.note
    assert dataset.note in capsys.readouterr().err
    assert data.load("mnist").name == "mnist"  # the next try starts afresh


def test_a_download_of_something_else_is_refused_by_its_contents(
    data_server: _DataServer,
) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(ARRAYS, y_test=(ARRAYS["y_test"] + 1) % 10))
    data_server.body = buffer.getvalue()
    with pytest.raises(InputError, match="SHA-256"):
        data.load("mnist")


def test_the_genuine_mnist_has_the_expected_hash(mnist: Path | None) -> None:
    if mnist is None:
        pytest.skip("MNIST is not at hand; MNIST_NPZ names it")
    dataset = data.load(str(mnist))
    assert dataset.sha256 == data.MNIST_SHA256
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [55000, 5000, 10000]
