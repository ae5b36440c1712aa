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

import numpy as np
from numpy.typing import NDArray

from export.errors import InputError

_UNSIGNED_BYTE = 0x08


def read(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    """Read `folder/name` or `folder/name.gz`, an array of uint8 with that many dimensions.

    Raises:
        InputError: no such file, a bad magic number, more or fewer bytes than it declares.
    """
    path = folder / name
    compressed = path.with_name(f"{name}.gz")
    try:
        data = path.read_bytes() if path.exists() else gzip.decompress(compressed.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder} holds neither {name} nor {name}.gz") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} in {folder} cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise InputError(f"{path} has {len(data)} bytes; an IDX header alone has {header}")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header])
    expected = _UNSIGNED_BYTE << 8 | dimensions
    if magic != expected:
        raise InputError(f"{path} begins with magic number {magic}; expected {expected}")
    if len(data) - header != math.prod(shape):
        raise InputError(
            f"{path} declares {shape}, {math.prod(shape)} bytes, and holds {len(data) - header}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
