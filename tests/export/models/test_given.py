"""Told before TensorFlow is started."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from export.errors import InputError
from export.models.given import check


def _zip(**files: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.keras", b"hello", "is not a model: expected a file as"),
        ("rows.keras", _zip(x_npy=""), "is not a model"),
        ("model.zip", _zip(config_json="{}"), "is not a model"),
        ("empty.h5", b"", "is not a model"),
        ("model.onnx", b"\x08\x07", "is not a model"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        check(tmp_path / name)


def test_files_and_folders_that_are_models(tmp_path: Path) -> None:
    file, older, folder = tmp_path / "a.keras", tmp_path / "b.h5", tmp_path / "models" / "7"
    file.write_bytes(_zip(config_json="{}"))
    older.write_bytes(b"\x89HDF\r\n\x1a\n")
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    for path in (file, older, folder):
        check(path)
    with pytest.raises(InputError, match=r"holds no saved_model\.pb; .*models/7 has one"):
        check(tmp_path / "models")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.keras cannot be read: No such file"):
        check(tmp_path / "none.keras")
    with pytest.raises(InputError, match=r"is not a SavedModel: it holds no saved_model\.pb$"):
        check(tmp_path)
