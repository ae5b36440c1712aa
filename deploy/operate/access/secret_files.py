"""Where keys and certificates are stored, and how a file there is replaced.

The folder is closed to other users of this machine. `gateway/` and `alerting/` in it are mounted in
containers that run as other users: files there are readable by everyone who can reach them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy import FOLDER
from deploy.operate.access.store import AUTHORITY, AUTHORITY_KEY, LOCAL, Result
from deploy.operate.errors import Refused


def folder() -> Path:
    """The folder of secrets: DEPLOY_SECRETS, as the compose file reads it, or `deploy/secrets`."""
    return FOLDER / (os.environ.get("DEPLOY_SECRETS") or "secrets")


def gateway() -> Path:
    """The part of it that is mounted in the gateway."""
    return folder() / "gateway"


def alerting() -> Path:
    """The part of it that is mounted in Alertmanager."""
    return folder() / "alerting"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Create the folders if there are none, and hold the lock to write in them.

    Raises:
        Refused: the folder belongs to another user.
    """
    mounted = gateway(), alerting()
    for part in mounted:
        part.mkdir(parents=True, exist_ok=True)
    try:
        folder().chmod(0o700)
        for part in mounted:
            part.chmod(0o755)
    except PermissionError:
        raise Refused(
            f"{folder()} belongs to another user (Docker creates a missing folder as root); run "
            f"`sudo chown -R $USER {folder()}`"
        ) from None
    with alone_in(folder()):
        yield


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock on this folder's files.

    Raises:
        BlockingIOError: another process holds it, and this call does not wait.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file atomically: a reader sees the old or the new content."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Folder:
    """The folder, as a store of keys and certificates."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no file."""
        path = _path(name)
        return path.read_bytes() if path.exists() else None

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files, one after the other."""
        for name, content in files.items():
            replace(_path(name), content, mode=0o600 if name == AUTHORITY_KEY else 0o644)

    def called(self, name: str) -> str:
        """The path of a file."""
        return str(_path(name))

    def hosts(self) -> Sequence[str]:
        """The names of this machine."""
        return LOCAL

    def how_to_trust(self) -> Sequence[str]:
        """Examples with curl and with the client."""
        ca = _path(AUTHORITY)
        port = os.environ.get("GATEWAY_PORT") or 8443
        return (
            f"curl --cacert {ca} https://localhost:{port}/healthz",
            f'DigitClient("grpcs://localhost:{port}", api_key=…, tls=Tls(ca="{ca}"))',
        )

    def alone(self, work: Callable[[], Result], *_: str) -> Result:
        """Run `work` once, with the lock.

        Raises:
            Refused: the folder belongs to another user.
        """
        with locked():
            return work()


def _path(name: str) -> Path:
    return (folder() if name == AUTHORITY_KEY else gateway()) / name
