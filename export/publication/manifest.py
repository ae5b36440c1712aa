"""What a version consists of, file by file, so that whatever was changed since is found.

`assets.extra/SHA256SUMS` lists every other file of the version, as `sha256sum --check` reads it.
Its own digest is written down outside of the version, in the repository's `.versions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PATH = Path("assets.extra", "SHA256SUMS")


def write(folder: Path, ignoring: str) -> str:
    """Write `PATH` under a complete version's folder; return the SHA-256 of the list itself.

    `ignoring` is the name of a file that is gone when the version is published.
    """
    digests = _digests(folder)
    digests.pop(ignoring, None)
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    path.write_text(_listed(digests))
    return _sha256(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder that of `sha256sum`'s list of its files."""
    if path.is_file():
        return _sha256(path)
    return hashlib.sha256(_listed(_digests(path)).encode()).hexdigest()


def differences(folder: Path, digest: str) -> list[str]:
    """What in a version is not as it was published, one sentence per file; empty if all is.

    Raises:
        OSError: a file cannot be read.
    """
    path = folder / PATH
    if not path.is_file():
        return [f"{PATH} is missing"]
    if _sha256(path) != digest:
        return [f"{PATH} was changed"]
    lines = [line.partition("  ") for line in path.read_text().splitlines()]
    listed = {name: digest for digest, _, name in lines}
    found = _digests(folder)
    return [
        f"{name} {_verdict(listed.get(name), found.get(name))}"
        for name in sorted(listed.keys() | found.keys())
        if listed.get(name) != found.get(name)
    ]


def _listed(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _verdict(listed: str | None, found: str | None) -> str:
    if listed is None:
        return "was added"
    return "is missing" if found is None else "was changed"


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: _sha256(path) for name, path in names.items() if name != PATH.as_posix()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
