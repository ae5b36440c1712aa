"""From a picture, as a path, a file's bytes or a PIL image, to the file that the model is sent.

Files go as they are: the graph turns them as their EXIF data say. A photograph that is larger than
a server takes is sent upright and small, as the graph looks at no more; that needs Pillow, which
is optional.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfserving_client.call.arguments import typed
from tfserving_client.errors import InvalidInput, Rejected

MAX_FILE_BYTES = 1 << 20  # the published graph refuses more, and the gateway before it
STARTS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # of a PNG and a JPEG

_MAX_PHOTOGRAPH_BYTES = 1 << 26
_SIDE = 512  # pixels, the longer side of what is made smaller: the graph looks at no more
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_UNDECODABLE = re.compile(r"\[image\] \[\d|Invalid (PNG|JPEG)|jpeg::Uncompress")
# The graph's assertion; see `export/digits/graph/decoding.py`.
_NAMED = re.compile(r"\[image\] \[(\d+)\] ((?:\[.*?\] ?)+)")
_DECLARED = re.compile(r"declares (\d+) (\d+) pixels")
_ORIENTATION = 0x0112  # EXIF's tag
_SUFFIXES = {".png", ".jpg", ".jpeg"}
# Modes of PIL images that PNG cannot hold → the nearest that it can.
_CONVERTED = {
    "CMYK": "RGB", "HSV": "RGB", "LAB": "RGB", "RGBX": "RGB", "YCbCr": "RGB",
    "La": "LA", "RGBa": "RGBA",
}  # fmt: skip
# Modes that Pillow scales by picking pixels → those in which it averages.
_SCALABLE = {"1": "L", "P": "RGBA", "PA": "RGBA"}


def is_picture(item: Any) -> bool:
    """Whether this is a path, bytes, an open file or a PIL image, readable or not."""
    known = (str, os.PathLike, bytes, bytearray, memoryview)
    return isinstance(item, known) or _is_pil(item) or _is_file(item)


def read(item: Any, index: int) -> bytes:
    """The PNG or JPEG of a picture; `index` is its place in the batch, for what refusals call it.

    Raises:
        InvalidInput: it is none, cannot be read, or would have to be made smaller, and cannot be,
            for example because Pillow is not installed.
    """
    name = f"image {index}"
    if _is_pil(item):
        return _from_pil(item, name)
    if isinstance(item, (str, os.PathLike)):
        path = os.fsdecode(item)
        name = repr(path)
        data = _read_file(path)
    elif isinstance(item, (bytes, bytearray, memoryview)):
        data = bytes(item)
    elif _is_file(item):
        data = _read_open(item, name)
    else:
        raise InvalidInput(
            f"{name} is {typed(item)}; expected a path, bytes, an open file or a PIL image"
        )
    if not data:
        raise InvalidInput(f"{name} is empty; expected a PNG or JPEG")
    if not data.startswith(STARTS):
        raise InvalidInput(f"{name} is no PNG or JPEG: it begins with {data[:8]!r}")
    if len(data) > _MAX_PHOTOGRAPH_BYTES:
        raise InvalidInput(
            f"{name} is larger than {_MAX_PHOTOGRAPH_BYTES:,} bytes, the most that is read"
        )
    if len(data) > MAX_FILE_BYTES:
        return _redrawn(
            data, f"{name} is larger than {MAX_FILE_BYTES:,} bytes, the most that is sent"
        )
    return data


def explain(error: Rejected, files: Sequence[bytes]) -> None:
    """Say which of the files a server refused, and why, if it was for a file.

    The graph names one that it looked at and did not like; one that breaks in the decoder has no
    name there.
    """
    if not _UNDECODABLE.search(error.server_text):
        return
    named = _NAMED.search(error.server_text)
    faults = ((place, what) for place, data in enumerate(files) if (what := fault(data)))
    if named and not named[2].startswith("[is no"):  # of so few bytes that there is no more to say
        said = " ".join(["image", named[1], *re.findall(r"\[(.*?)\]", named[2])])
        error.cause = _DECLARED.sub(r"is \1 by \2 pixels large", said)
    elif found := next(faults, None):
        error.cause = f"image {found[0]}: {found[1]}"
    elif len(files) == 1:
        error.cause = f"image 0: {error.cause}"
    else:
        return
    error.advice = ""


def fault(data: bytes) -> str:
    """What is wrong within a file that a server refused, as far as this can be told; else empty.

    Sources: PNG (third edition), 5.3: a chunk is its length, type, data and checksum. JPEG (T.81),
    annex B: the last marker is EOI; within the data of a scan 0xFF stands before 0 or 0xD0..0xD7.
    """
    if not data.startswith(STARTS[0]):
        return "" if _ends(data) else "a JPEG cut off"
    at = len(STARTS[0])
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        checksum = data[at + 8 + length : at + 12 + length]
        if len(checksum) < 4:
            break
        if zlib.crc32(data[at + 4 : at + 8 + length]) != int.from_bytes(checksum):
            return "a PNG with a broken chunk"
        if kind == b"IEND":
            return ""
        at += 12 + length
    return "a PNG cut off"


def _ends(data: bytes) -> bool:
    """Whether a JPEG has its end, and not just that of a thumbnail within it."""
    at = 2
    while marker := _MARKER.search(data, at):
        if marker[1] == b"\xd9":
            return True
        at = marker.end()
        if marker[1] != b"\x01":  # the others have a length, by which they may hold anything
            at += int.from_bytes(data[at : at + 2])
    return False


def _is_file(item: Any) -> bool:
    return hasattr(item, "read") and not isinstance(item, type)


def _read_open(file: Any, name: str) -> bytes:
    data = file.read(_MAX_PHOTOGRAPH_BYTES + 1)
    if inspect.iscoroutine(data):
        data.close()
        raise InvalidInput(f"{name} is read by a coroutine; pass `await file.read()`")
    if not isinstance(data, bytes):
        raise InvalidInput(f"{name} is a file opened for text; open it for bytes, with mode 'rb'")
    if not data:
        raise InvalidInput(f"{name} is an open file with nothing left to read; `seek(0)` first")
    return data


def _is_pil(item: Any) -> bool:
    # An image of Pillow can only be met where it was imported already.
    return type(item).__module__.startswith("PIL.") and hasattr(item, "save")


def _from_pil(image: Any, name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1  # a PNG of it would not say so
        if image.mode != "F" and (turned or max(image.size) > _SIDE):
            return _small(image)
        if image.mode in _CONVERTED:
            image = image.convert(_CONVERTED[image.mode])
        image.save(buffer, format="PNG")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name}, {image!r}, cannot be written as PNG: {error}") from error
    return buffer.getvalue()


def _redrawn(data: bytes, reason: str) -> bytes:
    """A file upright and small; `reason` begins the refusal if that cannot be done."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise InvalidInput(
            f"{reason}; `pip install pillow` lets this client do what is needed, "
            f"or save it upright and {_SIDE} pixels wide before"
        ) from None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            image.draft("L", (_SIDE, _SIDE))  # a JPEG is decoded at a fraction of its size
            return _small(image)
    except Exception as error:  # Pillow's own are many
        raise InvalidInput(f"{reason}, and cannot be redrawn: {error}") from error


def _small(image: Any) -> bytes:
    """A PIL image as PNG: grey, upright, at most `_SIDE` pixels, transparency over white paper."""
    import numpy as np
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion cuts off
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    scale = min(1.0, _SIDE / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    image = image.convert(_SCALABLE.get(image.mode, image.mode))
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    buffer = io.BytesIO()
    image.convert("L").save(buffer, format="PNG")
    return buffer.getvalue()


def _read_file(name: str) -> bytes:
    try:
        path = Path(name)
        if name and path.is_dir():
            raise InvalidInput(f"{name!r} is a folder, not a file{_contents(path)}")
        if name and path.exists() and not path.is_file():  # reading a pipe could take forever
            raise InvalidInput(f"{name!r} is not a file")
        with open(name, "rb") as file:  # noqa: PTH123 (Path("") would be this folder)
            return file.read(_MAX_PHOTOGRAPH_BYTES + 1)
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        if re.match(r"\w+://", name):
            reason = "URLs are not fetched; pass the picture's bytes"
        raise InvalidInput(f"{name!r} cannot be read: {reason}") from error


def _contents(folder: Path) -> str:
    kinds: Counter[str] = Counter()
    for path in folder.iterdir():
        hidden = path.name.startswith(".")
        ending = "folders" if path.is_dir() else path.suffix.lower() or "without an ending"
        kinds["hidden" if hidden else ending] += 1
    if kinds.keys() & _SUFFIXES:
        return "; name the pictures in it"
    held = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
    return f", and without a PNG or JPEG; it holds {held or 'nothing'}"
