"""Find a version on disk by what the operator typed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deploy import model_config
from deploy.model_config import ConfigError, Model
from deploy.operate.checks import server
from deploy.operate.errors import InputError
from deploy.operate.stack import served


def meant(name: str | None, configured: Iterable[str] | None = None) -> str:
    """The name of a model; None: the only configured one.

    Args:
        name: as an operator said it.
        configured: the names of those that are; None: on this machine.

    Raises:
        InputError: the name is not valid, several models are configured, or the configuration
            cannot be read.
    """
    if name is None:
        names = [*(_configured() if configured is None else configured)]
        if len(names) != 1:
            raise InputError(
                f"there are {len(names)} models: {', '.join(names)}; choose one with --name"
            )
        (name,) = names
    if wrong := server.misnamed(name):
        raise InputError(wrong)
    return name


def versions(name: str) -> dict[int, Path]:
    """Number → folder of a model's versions, in order; empty if the model is stored elsewhere.

    Args:
        name: of the model; if it is not configured, its folder is the one of this name.

    Raises:
        InputError: its folder cannot be read.
    """
    root, model = served.models_folder(), _configured().get(name)
    folder = served.folder_of(model.base_path, root) if model else root / name
    try:
        return dict(sorted(model_config.versions(folder).items())) if folder else {}
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from None


def version(name: str, number: int | None) -> tuple[int, Path]:
    """The number and the folder of a version of a model.

    Args:
        name: of the model.
        number: None: the newest.

    Raises:
        InputError: there is none.
    """
    found = versions(name)
    if not found:
        raise InputError(
            f"{name} has no version on this machine; publish one with "
            f"`python -m export --name {name}`"
        )
    if number is None:
        number = max(found)
    if number not in found:
        listed = ", ".join(map(str, found))
        raise InputError(f"{name} has no version {number}; there are {listed}")
    return number, found[number]


def at(folder: Path, name: str | None) -> tuple[str, int, Path]:
    """The same for a version in any folder; number 1 if the folder's name is not a number.

    Args:
        folder: of the version.
        name: None: the name of the folder around it.

    Raises:
        InputError: there is none, or the name is not valid.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the folder of a version")
    name = meant(name or folder.resolve().parent.name)
    return name, int(folder.name) if folder.name.isdecimal() else 1, folder


def _configured() -> dict[str, Model]:
    try:
        return {one.name: one for one in model_config.read(served.place(served.MODELS))}
    except ConfigError as error:
        raise InputError(str(error)) from None
