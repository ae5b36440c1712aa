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
    """A model's name; None: of the only one that is configured.

    Args:
        name: as an operator said it.
        configured: the names of those that are; None: on this machine.

    Raises:
        InputError: that is no name, several are configured, or the configuration cannot be read.
    """
    if name is None:
        names = [*(_configured() if configured is None else configured)]
        if len(names) != 1:
            raise InputError(
                f"there are {len(names)} models: {', '.join(names)}; --name says which"
            )
        (name,) = names
    if wrong := server.misnamed(name):
        raise InputError(wrong)
    return name


def versions(name: str) -> dict[int, Path]:
    """Number → folder of a model's versions, in order; none of a model that lies elsewhere.

    Args:
        name: the model's; one that is not configured lies in the folder of its name.

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
    """The number of a model's version, and the version's folder.

    Args:
        name: the model's.
        number: None: the newest.

    Raises:
        InputError: there is none.
    """
    found = versions(name)
    if not found:
        raise InputError(f"{name} has no version on this machine")
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
