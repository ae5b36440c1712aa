"""MNIST's own file format, IDX: a magic number, big-endian sizes, then the bytes.

Source: Y. LeCun, "The MNIST database", section "FILE FORMATS". Magic: two zero bytes, the type
(8: unsigned byte), the number of dimensions.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from export.errors import InputError

MOST_BYTES = 1 << 32  # of one array: 5 million images, eighty times MNIST

_UNSIGNED_BYTE = 0x08
_PIECE = 1 << 20


def find(folder: Path, name: str) -> Path:
    """Return `folder/name` or `folder/name.gz`, whichever exists.

    Raises:
        InputError: neither does.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise InputError(f"{folder} holds neither {name} nor {name}.gz")


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an array of uint8 with that many dimensions; `.gz` is inflated as far as it declares.

    Raises:
        InputError: no such file, a bad magic number, more or fewer bytes than it declares.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _read(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    size = 4 + 4 * dimensions
    header = file.read(size)
    if len(header) < size:
        raise InputError(f"{path} has {len(header)} bytes; an IDX header alone has {size}")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", header)
    expected = _UNSIGNED_BYTE << 8 | dimensions
    if magic != expected:
        raise InputError(f"{path} begins with magic number {magic}; expected {expected}")
    declared = math.prod(shape)
    if declared > MOST_BYTES:
        raise InputError(
            f"{path} declares {shape}, {declared} bytes; expected at most {MOST_BYTES}"
        )
    # By pieces, so that memory is taken for what is there and not for what is declared; and one
    # byte more than declared, which also makes gzip verify its checksum.
    content = bytearray()
    while piece := file.read(min(_PIECE, declared + 1 - len(content))):
        content += piece
    if len(content) != declared:
        held = "more" if len(content) > declared else len(content)
        raise InputError(f"{path} declares {shape}, {declared} bytes, and holds {held}")
    return np.frombuffer(content, np.uint8).reshape(shape)
