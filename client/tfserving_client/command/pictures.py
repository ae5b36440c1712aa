"""The pictures that a command line names: files, folders, globs and standard input."""

# os.path's questions answer False where pathlib's may raise; pathlib's globs cannot be absolute.
# ruff: noqa: PTH112, PTH113, PTH207

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

_SUFFIXES = ".png", ".jpg", ".jpeg"


def pictures(arguments: Sequence[str]) -> tuple[Iterator[tuple[str, str | bytes]], int | None]:
    """Each picture's name and what to classify, and how many there are if that is known."""
    named_paths = [path for argument in arguments for path in paths(argument)]
    named = chain.from_iterable(_stdin() if path == "-" else [(path, path)] for path in named_paths)
    return named, None if "-" in named_paths else len(named_paths)


def paths(argument: str) -> list[str]:
    """A folder's pictures, or the files of a glob; anything else as it is."""
    if os.path.isdir(argument):
        folder = Path(argument)
        files = [str(file) for file in folder.rglob("*") if not _is_hidden(file, folder)]
        found = [file for file in files if file.lower().endswith(_SUFFIXES)]
    else:
        found = [file for file in glob.glob(argument, recursive=True) if os.path.isfile(file)]
    if os.path.isfile(argument) or not found:
        return [argument]  # the client says what is wrong with it, if anything is
    return sorted(found, key=_natural)


def _is_hidden(file: Path, folder: Path) -> bool:
    # Beside each picture on a foreign disk macOS puts another file of its ending, ._seven.png.
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _natural(path: str) -> list[tuple[str, int]]:
    """Sorts 2.png before 10.png."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", path)]


def _stdin() -> Iterator[tuple[str, str | bytes]]:
    """One picture's bytes, or the paths that standard input lists."""
    from tfserving_client.digits.pictures import STARTS

    stdin = sys.stdin.buffer
    start = stdin.read(8)
    if start.startswith(STARTS):
        yield "-", start + stdin.read()
        return
    for line in chain((start + stdin.readline()).splitlines(), stdin):
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            yield path, path
