"""The copy of `deploy/server/` that this machine's servers read: only what passed the check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy import FOLDER
from deploy.operate.access import secret_files

SOURCE = FOLDER / "server"
COPY = FOLDER / "machine" / "config"


def read(folder: Path) -> dict[str, bytes]:
    """The files of the source or the copy, by name; none if there is no such folder."""
    found = folder.glob("*.config") if folder.is_dir() else ()
    return {path.name: path.read_bytes() for path in sorted(found)}


def hand_over(files: Mapping[str, bytes]) -> list[str]:
    """Make the copy hold these files and no others; the names of those that changed.

    Running servers read `models.config` again within half a minute, and the others when they start.
    """
    COPY.mkdir(exist_ok=True)
    COPY.chmod(0o755)  # the server is another user
    before = read(COPY)
    for name in before.keys() - files.keys():
        (COPY / name).unlink()
    changed = [name for name, content in files.items() if before.get(name) != content]
    for name in changed:
        secret_files.replace(COPY / name, files[name])
    return changed
