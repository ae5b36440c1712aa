"""The settings of this machine: `machine/.env`, which every `docker compose` here reads.

Written when `up` has succeeded, so that every later command uses them: in another shell, after a
reboot, or by Compose itself. As with Compose, an environment variable overrides the file, and an
empty one counts as unset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from deploy import FOLDER
from deploy.operate.access import secret_files
from deploy.operate.errors import InputError

FILE = FOLDER / "machine" / ".env"
_OF_COMPOSE = {"COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"}
_VARIABLE = re.compile(r"\$\{(\w+)")
_LINE = re.compile(r"(?P<name>\w+)=(?P<value>.*)")
_PLAIN = re.compile(r"[\w./:@,+-]*")


def names() -> set[str]:
    """The variables that the compose files and Compose itself read."""
    files = FOLDER.glob("docker-compose*.yml")
    return _OF_COMPOSE.union(*(_VARIABLE.findall(file.read_text()) for file in files))


def read() -> dict[str, str]:
    """The settings in the file; none if there is no file."""
    return dict(map(_parsed, filter(_LINE.fullmatch, _lines())))


def load() -> None:
    """Add the file's settings to the environment; variables that are set there stay."""
    for name, value in read().items():
        os.environ.setdefault(name, value)


def write(decided: Mapping[str, str]) -> None:
    """Write these settings; comments, and variables that the compose files do not know, stay.

    Raises:
        InputError: a value that does not fit in a line of the file.
    """
    known = names()
    kept = [line for line in _lines() if not _LINE.fullmatch(line) or _parsed(line)[0] not in known]
    kept = kept or [
        "# Settings of this machine, by `python -m deploy up`; you may edit them. Not in git."
    ]
    lines = [f"{name}={_quoted(name, value)}" for name, value in sorted(decided.items()) if value]
    secret_files.replace(FILE, "".join(f"{line}\n" for line in [*kept, *lines]).encode())


def _lines() -> list[str]:
    return FILE.read_text().splitlines() if FILE.exists() else []


def _parsed(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    value = value.strip()
    if value[:1] in ("'", '"') and value[-1:] == value[:1]:
        return name, value[1:-1]
    return name, value.partition(" #")[0].rstrip()


def _quoted(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "'" in value or not value.isprintable():
        raise InputError(f"{name}={value!r}: expected one line without quotation marks")
    return f"'{value}'"
