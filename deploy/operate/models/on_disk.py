"""Versions on disk, as an operator names them."""

from __future__ import annotations

from pathlib import Path

from deploy import model_config
from deploy.model_config import ConfigError, Model
from deploy.operate.checks import server
from deploy.operate.errors import InputError
from deploy.operate.stack import served


def meant(name: str | None) -> str:
    """A model's name; None: of the first that is configured.

    Raises:
        InputError: that is no name, or the configuration cannot be read.
    """
    return _checked(name or next(iter(_configured()), "mnist"))


def version(name: str | None, number: int | None) -> tuple[str, int, Path]:
    """A model's name, the number of its version, and the version's folder.

    Args:
        name: None: the first model that is configured.
        number: None: the newest.

    Raises:
        InputError: there is none.
    """
    configured = _configured()
    name = meant(name)
    root = served.models_folder()
    folder = served.folder_of(configured[name].base_path, root) if name in configured else None
    folder = folder or root / name
    try:
        found = model_config.versions(folder)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from None
    if not found:
        raise InputError(f"{folder} holds no version")
    if number is None:
        number = max(found)
    if number not in found:
        has = ", ".join(map(str, sorted(found)))
        raise InputError(f"{folder} has no version {number}; it has {has}")
    return name, number, found[number]


def at(folder: Path, name: str | None) -> tuple[str, int, Path]:
    """The same of a version that lies anywhere; 1, where its folder has no number for a name.

    Args:
        folder: of the version.
        name: None: the name of the folder around it.

    Raises:
        InputError: there is none, or that is no name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected that of a version")
    name = _checked(name or folder.resolve().parent.name)
    return name, int(folder.name) if folder.name.isdecimal() else 1, folder


def _configured() -> dict[str, Model]:
    try:
        return {one.name: one for one in model_config.read(served.place(served.MODELS))}
    except ConfigError as error:
        raise InputError(str(error)) from None


def _checked(name: str) -> str:
    if wrong := server.misnamed(name):
        raise InputError(wrong)
    return name
