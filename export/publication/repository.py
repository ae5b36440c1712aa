"""The model repository on disk: `<root>/<name>/<N>/`, and how a version appears in it.

A server may look at any instant and loads whatever directory has a number for a name. So a version
is made next to its place under a name that is no number, flushed to disk, and renamed: at every
instant it is either all there or not there.

A number is never given twice, not even after its directory was removed: a server remembers numbers,
and one that once failed to load is never tried again. `.versions` lists every number given, each
with the SHA-256 of its list of files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from export.errors import InputError
from export.progress import say
from export.publication import manifest

_HIGHEST = 2**63 - 1  # the server's version numbers are int64
_VERSION = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_STAGING, _LOCK = ".staging-", ".lock"
# Readable by the server's user, independent of who publishes and of the umask.
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644


class Repository:
    """The versions of one model. `folder` is `<root>/<name>`."""

    def __init__(self, root: Path, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise InputError(f"--name {name!r}: expected letters, digits, '_', '.', '-'")
        self.folder = root / name
        self.ledger = self.folder / ".versions"

    def versions(self) -> dict[int, Path]:
        """Number → path, by the server's rule: the whole name parses as a 64-bit integer.

        Blanks and a sign before it do no harm, nor does it matter what lies there.
        """
        return dict(self._numbered())

    def _numbered(self) -> list[tuple[int, Path]]:
        """Every entry that is a version to the server, ascending; `1` and `0001` are both 1."""
        if not self.folder.is_dir():
            return []
        named = [path for path in self.folder.iterdir() if _VERSION.fullmatch(path.name)]
        numbered = sorted((int(path.name), path) for path in named)
        return [(number, path) for number, path in numbered if -_HIGHEST <= number <= _HIGHEST]

    def check_is_new(self, version: int) -> None:
        """Refuse a number that was given before.

        Raises:
            InputError: it was.
        """
        if not 1 <= version <= _HIGHEST:
            raise InputError(f"--version {version}: expected a positive 64-bit integer")
        if path := self.versions().get(version):
            raise InputError(f"--version {version}: {path} exists")
        if version in self.digests():
            raise InputError(
                f"--version {version}: it was published and removed; a server may remember it"
            )

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for the candidate, next to its place; gone at the end unless published.

        What killed runs left is removed first: each run holds a lock in its folder while it lives.
        """
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        with contextlib.ExitStack() as cleanup:
            for folder in reversed(made):
                cleanup.callback(_remove_if_empty, folder)
                folder.mkdir(exist_ok=True)
                folder.chmod(_FOLDER_MODE)
            with self._locked():
                self._remove_stale()
                path = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.folder))
                cleanup.callback(shutil.rmtree, path, ignore_errors=True)
                cleanup.callback(os.close, _lock(path / _LOCK))
            yield path

    def publish(self, staged: Path, version: int | None) -> int:
        """Make the staged folder a version: `version`, or one above the highest ever given.

        Raises:
            InputError: the number was given before.
            OSError: the disk is full or read-only; nothing was published.
        """
        digest = manifest.write(staged, ignoring=_LOCK)
        _to_disk(staged)
        with self._locked():
            if version is None:
                version = max([0, *self.versions(), *self.digests()]) + 1
            self.check_is_new(version)
            self._write_down(version, digest, staged)
            (staged / _LOCK).unlink(missing_ok=True)
            staged.rename(self.folder / str(version))
            # It is published: what a failing disk says now takes nothing back.
            with contextlib.suppress(OSError):
                _fsync(self.folder)
        return version

    def keep_newest(self, count: int, spared: AbstractSet[int]) -> list[int]:
        """Remove all that is older than the newest `count` folders, but for those to be spared.

        A link is removed without what it points at. One that cannot be removed stops no other.

        Returns:
            The numbers removed, ascending.
        """
        removed = set()
        with self._locked():
            numbered = self._numbered()
            kept = sorted({number for number, path in numbered if path.is_dir()})[-count:]
            for number, path in numbered:
                if number in spared or (kept and number >= kept[0]):
                    continue
                # Out of the server's sight in one step; what is left after a kill is stale.
                doomed = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.folder))
                try:
                    path.rename(doomed / "version")
                    removed.add(number)
                except OSError as error:
                    say(f"keep    {path} cannot be removed: {error.strerror}")
                shutil.rmtree(doomed, ignore_errors=True)
        return sorted(removed)

    def digests(self) -> dict[int, str]:
        """Every number ever given → the SHA-256 of the list of its files (`manifest.PATH`).

        Raises:
            InputError: the list of numbers was damaged.
        """
        if not self.ledger.exists():
            return {}
        entries = {}
        for line in self.ledger.read_text().splitlines():
            if not (match := re.fullmatch(r"([0-9]{1,19}) ([0-9a-f]{64})", line)):
                raise InputError(f"{self.ledger}: {line!r}; expected a version and a SHA-256")
            entries[int(match[1])] = match[2]
        return entries

    def _write_down(self, version: int, digest: str, staged: Path) -> None:
        # Made in the staging folder, so that a full disk or a kill leaves the old list whole.
        new = staged / self.ledger.name
        before = self.ledger.read_text() if self.ledger.exists() else ""
        new.write_text(f"{before}{version} {digest}\n")
        _fsync(new)
        new.replace(self.ledger)

    def _remove_stale(self) -> None:
        for path in self.folder.glob(f"{_STAGING}*"):
            with contextlib.suppress(OSError):
                os.close(_lock(path / _LOCK, fcntl.LOCK_NB))  # fails while its run lives
                say(f"removing {path}, left by a run that was killed")
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / _LOCK
        lock = _lock(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(lock)


def _lock(path: Path, how: int = 0) -> int:
    """Make and lock a file, and return its descriptor.

    Not the folder: NFS locks only what is open for writing (flock(2), "NFS details"), and no folder
    can be.

    Raises:
        OSError: it cannot be made, or with `LOCK_NB` another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
            if _is_at(path, descriptor):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the process that held it has removed the file


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _to_disk(folder: Path) -> None:
    """Bring a tree to the disk."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
