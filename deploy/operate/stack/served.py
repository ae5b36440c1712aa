"""The server's configuration: where it is written, and the copy that servers read.

A file of this machine overrides the bundle's. The copy holds only what passed the check.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from deploy import FOLDER, model_config
from deploy.model_config import ConfigError, Model
from deploy.operate.access import secret_files
from deploy.operate.errors import Refused

SOURCE = FOLDER / "server"
OWN = FOLDER / "machine" / "server"
COPY = FOLDER / "machine" / "config"
MODELS = "models.config"
CANDIDATE = "candidate.config"  # the models of the canary's server
CANARY = "canary.config"  # which callers it answers, for the gateway
SHADOW = "shadow.config"  # which requests the gateway keeps
AS_SETTING = {"SERVER_CONFIG": f"./{COPY.relative_to(FOLDER)}"}  # servers read the copy
INSIDE = PurePosixPath("/models")  # the models folder inside the containers


def models_folder() -> Path:
    """The folder that holds the models' folders: MODELS, as the compose file reads it."""
    return (FOLDER / (os.environ.get("MODELS") or "../models")).resolve()


def folder_of(base_path: str, models: Path) -> Path | None:
    """The path on this machine of a path in the server; None if not in the models folder."""
    path = PurePosixPath(base_path)
    return models / path.relative_to(INSIDE) if path.is_relative_to(INSIDE) else None


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """Hold the lock to change the configuration.

    Raises:
        Refused: another command holds it.
    """
    try:
        with secret_files.alone_in(OWN.parent, wait=False):
            yield
    except BlockingIOError:
        raise Refused(
            "another command changes what is served right now; try again when it has ended"
        ) from None


def place(name: str) -> Path:
    """The path of a file of the configuration."""
    return OWN / name if (OWN / name).exists() else SOURCE / name


def write_models(text: str) -> None:
    """Write this machine's `models.config`."""
    OWN.mkdir(exist_ok=True)
    secret_files.replace(OWN / MODELS, text.encode())


def source() -> dict[str, bytes]:
    """The files of the configuration as they are written, by name."""
    return {**read(SOURCE), **read(OWN)}


def models() -> tuple[Model, ...]:
    """The models of the configuration as it is written.

    Raises:
        Refused: it cannot be read.
    """
    try:
        return model_config.read(place(MODELS))
    except ConfigError as error:
        raise Refused(str(error)) from None


def read(folder: Path) -> dict[str, bytes]:
    """The files of a configuration folder, by name; none if there is no folder."""
    found = folder.glob("*.config") if folder.is_dir() else ()
    return {path.name: path.read_bytes() for path in sorted(found)}


def hand_over(files: Mapping[str, bytes]) -> list[str]:
    """Make the copy hold exactly these files; return the names of those that changed.

    Running servers read `models.config` again within two seconds, and the others when they start.
    """
    COPY.mkdir(exist_ok=True)
    COPY.chmod(0o755)  # the server runs as another user
    before = read(COPY)
    for name in before.keys() - files.keys():
        (COPY / name).unlink()
    changed = [name for name, content in files.items() if before.get(name) != content]
    for name in changed:
        secret_files.replace(COPY / name, files[name])
    return changed
