"""What was given as a model, looked at before TensorFlow is started."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from export.errors import InputError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_GRAPH = "saved_model.pb"


@dataclass(frozen=True, slots=True)
class Given:
    """A file of Keras, or the folder of a SavedModel."""

    path: Path
    is_keras: bool


def look(path: Path) -> Given:
    """Tell which it is.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    try:
        if path.is_dir():
            return _folder(path)
        with path.open("rb") as file:
            if path.suffix in {".h5", ".hdf5"} and file.read(len(_HDF5)) == _HDF5:
                return Given(path, is_keras=True)
            if path.suffix == ".keras" and zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    if "config.json" in archive.namelist():
                        return Given(path, is_keras=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    raise InputError(
        f"{path} is no model: expected a file as model.save('NAME.keras') writes it, its older "
        "form .h5, or the folder of a SavedModel"
    )


def _folder(path: Path) -> Given:
    if (path / _GRAPH).is_file():
        return Given(path, is_keras=False)
    inner = sorted(graph.parent for graph in path.glob(f"*/{_GRAPH}"))
    hint = f"; {inner[-1]} has one" if inner else ""
    raise InputError(f"{path} is no SavedModel: it holds no {_GRAPH}{hint}")
