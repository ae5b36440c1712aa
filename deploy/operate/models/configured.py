"""The models that this machine serves, in a file that is not in git."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import model_config
from deploy.model_config import Model
from deploy.operate.checks import server
from deploy.operate.errors import InputError, Refused
from deploy.operate.models import editing
from deploy.operate.stack import served
from deploy.operate.stack.status import Status, table
from deploy.served import everywhere


@dataclass(frozen=True, slots=True)
class Row:
    """A model that is configured, or that is in the models folder.

    Attributes:
        name: of the model, or of its folder.
        base_path: the path inside the server; "" if it is not configured.
        on_disk: its versions; None if they cannot be read.
        labels: label → version.
        served: the versions that every running replica has AVAILABLE; None if none is known to run.
    """

    name: str
    base_path: str
    on_disk: Sequence[int] | None
    labels: Mapping[str, int]
    served: Sequence[int] | None


def listing(status: Status | None) -> list[Row]:
    """Every model that is configured, then every other that has a version on disk.

    Raises:
        Refused: the configuration cannot be read.
    """
    configured = served.models()
    rows = [
        Row(one.name, one.base_path, _on_disk(one.base_path), one.labels, _served(one, status))
        for one in configured
    ]
    root = served.models_folder()
    known = {served.folder_of(one.base_path, root) for one in configured}
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder not in known and folder.is_dir() and (found := model_config.versions(folder)):
            rows.append(Row(folder.name, "", sorted(found), {}, None))
    return rows


def as_json(rows: Sequence[Row]) -> str:
    """The rows as one JSON object."""
    return json.dumps({"models": [asdict(row) for row in rows]})


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned text."""
    text = [("MODEL", "BASE PATH", "ON DISK", "SERVED", "LABELS")]
    for row in rows:
        added = row.base_path or f"not configured: python -m deploy models add {row.name}"
        labels = ", ".join(f"{label} {number}" for label, number in sorted(row.labels.items()))
        text.append((row.name, added, _numbers(row.on_disk), _numbers(row.served), labels))
    return table(text)


def with_one_more(name: str, path: str | None) -> tuple[str, list[str]]:
    """The configuration with a model added, and the names of the bundle's models left out of it.

    A model of the bundle is left out of the first file of this machine if it has no version here.

    Args:
        name: the name that callers use.
        path: its folder, on this machine or inside the server, or a bucket's URI; None: the
            folder of its name in the models folder.

    Raises:
        InputError: the name is not valid, or the server cannot reach the path.
        Refused: it is already configured.
    """
    if wrong := server.misnamed(name):
        raise InputError(wrong)
    configured, place = served.models(), served.place(served.MODELS)
    if any(one.name == name for one in configured):
        raise Refused(f"{name} is configured already, in {place}")
    text = editing.added(place.read_text(), name, _base_path(name, path))
    is_own = place.parent == served.OWN
    left_out = [one.name for one in configured if not is_own and _on_disk(one.base_path) == []]
    for other in left_out:
        text = editing.removed(text, other)
    return text, left_out


def without(name: str) -> str:
    """The configuration without a model; its versions stay on disk.

    Raises:
        Refused: it is not configured, or it is the last one.
    """
    names = [one.name for one in served.models()]
    if name not in names:
        raise Refused(f"{name} is not configured; configured: {', '.join(names) or 'none'}")
    if len(names) == 1:
        raise Refused(
            f"{name} is the only model, and a server without models is never healthy; add another "
            "first, or stop everything with `python -m deploy down`"
        )
    return editing.removed(served.place(served.MODELS).read_text(), name)


def _base_path(name: str, path: str | None) -> str:
    """The path of the folder inside the server."""
    if path is None:
        return str(served.INSIDE / name)
    root = served.models_folder()
    if server.URI.match(path) or (served.folder_of(path, root) and not Path(path).is_dir()):
        return path
    folder = Path(path).resolve()
    if not folder.is_relative_to(root):
        raise InputError(
            f"--path {path}: {folder} is not in {root}, the only folder that servers read; move "
            "it there, or set MODELS"
        )
    return str(served.INSIDE / folder.relative_to(root))


def _on_disk(base_path: str) -> list[int] | None:
    folder = served.folder_of(base_path, served.models_folder())
    try:
        return sorted(model_config.versions(folder)) if folder else None
    except FileNotFoundError:
        return []
    except OSError:
        return None


def _served(model: Model, status: Status | None) -> list[int] | None:
    rows = status.rows if status else ()
    answers = [found for row in rows if (found := row.models.get(model.name)) is not None]
    return sorted(everywhere(answers)) if answers else None


def _numbers(numbers: Sequence[int] | None) -> str:
    return "–" if numbers is None else ", ".join(map(str, numbers)) or "none"
