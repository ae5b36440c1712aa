"""MNIST's own file format, IDX: a magic number, big-endian sizes, then the bytes.

Source: Y. LeCun, "The MNIST database", section "FILE FORMATS". Magic: two zero bytes, the type
(8: unsigned byte), the number of dimensions.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from export.errors import InputError
from export.npz import MOST_BYTES

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


def find(folder: Path, name: str) -> Path:
    """Return the file of that name, under the names and in the places that people have it.

    Those are `train-images-idx3-ubyte` and `train-images.idx3-ubyte`, with and without `.gz`; in
    the folder, in a folder of such a name around the file, or where torchvision's root has it.

    Raises:
        InputError: it is in none of them.
    """
    dotted = name.replace("-idx", ".idx")
    names = [name, f"{name}.gz", dotted, f"{dotted}.gz"]
    for place in (folder, folder / "raw", folder / "MNIST" / "raw"):
        for outer in names:
            for path in (place / outer, *(place / outer / inner for inner in names)):
                if path.is_file():
                    return path
    raise InputError(f"{folder} holds neither {name} nor {name}.gz; it holds {held(folder)}")


def held(folder: Path) -> str:
    """The names of a folder's first few entries."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "nothing") + more


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's contents, inflated if they are gzip's, whatever its name says.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if is_packed:
            with gzip.GzipFile(fileobj=file) as inflated:
                yield cast(BinaryIO, inflated)
        else:
            yield file


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an array of uint8 with that many dimensions; gzip is inflated as far as it declares.

    Raises:
        InputError: no such file, a bad magic number, more or fewer bytes than it declares.
    """
    try:
        with opened(path) as file:
            return _read(file, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _read(file: BinaryIO, path: Path, dimensions: int) -> NDArray[np.uint8]:
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
