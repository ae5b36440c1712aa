"""NumPy's archives of arrays, read so that no file can unpickle, or fill the memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from export.errors import InputError

Array = NDArray[Any]

MOST_BYTES = 1 << 32  # of one array: 5 million images of MNIST's size, eighty times MNIST

# What people name by mistake, by how it begins.
_KINDS = {
    b"\x93NUMPY": "a single array, .npy",
    b"\0\0\x08": "one file of IDX: name the folder that holds all four",
    b"\x1f\x8b": "packed by gzip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "HDF5",
    b"PAR1": "Parquet",
    b"\x80": "a Python pickle, which is never opened",
}


def read(
    file: BinaryIO, where: str, keys: Sequence[str] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of these names, or all; `where` is what a refusal calls the file.

    Raises:
        InputError: no such archive, an array is missing, is of objects, or not as it declares.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if keys is None:
                keys = [member.removesuffix(".npy") for member in members]
            if lacking := [key for key in keys if f"{key}.npy" not in members]:
                found = ", ".join(member.removesuffix(".npy") for member in members[:10])
                raise InputError(
                    f"{where} lacks {', '.join(lacking)}; expected arrays {', '.join(keys)}, "
                    f"and it holds {found or 'none'}"
                )
            return {key: _read(archive, key, where) for key in keys}
    except InputError:
        raise
    except Exception as error:  # a damaged file leads its readers to errors of any kind
        kind = _kind(file)
        raise InputError(
            f"{where} is not a readable .npz of plain arrays: {error}{kind}"
        ) from error


def _kind(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(8)
    kinds = [f"; it is {kind}" for magic, kind in _KINDS.items() if start.startswith(magic)]
    return kinds[0] if kinds else ""


def _read(archive: zipfile.ZipFile, key: str, where: str) -> NDArray[np.generic]:
    """One array; what its header declares is compared with its size before memory is taken."""
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Only these two are read in parts of bounded size.
        raise InputError(
            f"{where}: {key} is compressed by method {info.compress_type}; "
            "expected numpy's, stored or deflated"
        )
    with archive.open(info) as member:
        if (version := npy.read_magic(member)) != (1, 0):
            raise InputError(f"{where}: {key} has .npy version {version}; expected (1, 0)")
        shape, _, dtype = npy.read_array_header_1_0(member)
        held = info.file_size - member.tell()
    declared = math.prod(shape) * dtype.itemsize
    if declared > MOST_BYTES:
        raise InputError(
            f"{where}: {key} declares {shape}, {declared} bytes; expected at most {MOST_BYTES}"
        )
    if declared != held and not dtype.hasobject:
        raise InputError(f"{where}: {key} declares {shape}, {declared} bytes, and holds {held}")
    with archive.open(info) as member:
        return npy.read_array(member, allow_pickle=False)
