"""What was given as a model, looked at before TensorFlow is started."""

from __future__ import annotations

import zipfile
from pathlib import Path

from export.errors import InputError

_HDF5 = b"\x89HDF\r\n\x1a\n"


def check(path: Path) -> None:
    """Let a file of Keras pass, and the folder of a SavedModel.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return
        inner = sorted(graph.parent for graph in path.glob("*/saved_model.pb"))
        hint = f"; {inner[-1]} has one" if inner else ""
        raise InputError(f"{path} is not a SavedModel: it holds no saved_model.pb{hint}")
    try:
        with path.open("rb") as file:
            if path.suffix in {".h5", ".hdf5"} and file.read(len(_HDF5)) == _HDF5:
                return
            if path.suffix == ".keras" and zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    if "config.json" in archive.namelist():
                        return
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    raise InputError(
        f"{path} is not a model: expected a file as model.save('NAME.keras') writes it, its older "
        "form .h5, or the folder of a SavedModel"
    )
