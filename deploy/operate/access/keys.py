"""The API keys that open the gateway: one line each of a file that nginx includes in a map."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime

from deploy.operate.access.secret_files import gateway, locked, replace
from deploy.operate.errors import InputError, Refused

_LINE = re.compile(r'"(?P<key>[^"]+)" (?P<name>\S+); # created (?P<created>\d{4}-\d\d-\d\d)')
_NAME = re.compile(r"[a-z0-9-]{1,32}")
_WITHOUT_KEY = "local"  # as the gateway calls callers on this machine


@dataclass(frozen=True, slots=True)
class Key:
    """A key, the name of who holds it, and the day it was made (UTC)."""

    key: str
    name: str
    created: date


def read() -> list[Key]:
    """All keys, in the order they were made.

    Raises:
        Refused: the file holds a line that `create` does not write.
    """
    path = gateway() / "keys.conf"
    keys = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        if not (found := _LINE.fullmatch(line)):
            raise Refused(f"{path}:{number} is no line of `python -m deploy keys`")
        keys.append(Key(found["key"], found["name"], date.fromisoformat(found["created"])))
    return keys


def create(name: str) -> Key:
    """Make a key; the gateway knows it within a second or two.

    Raises:
        InputError: a name that nginx or a log could not hold.
        Refused: the name has a key.
    """
    if not _NAME.fullmatch(name) or name == _WITHOUT_KEY:
        raise InputError(
            f"{name!r} is no name: expected 1 to 32 of a to z, 0 to 9 and -, not {_WITHOUT_KEY!r}"
        )
    with locked():
        keys = read()
        if any(key.name == name for key in keys):
            raise Refused(f"{name} has a key; `python -m deploy keys revoke {name}` ends it")
        # An nginx map ignores case, so a key has none.
        made = Key(f"dk_{secrets.token_hex(16)}", name, datetime.now(UTC).date())
        _write([*keys, made])
    return made


def revoke(name: str) -> None:
    """End a key; the gateway refuses it within a second or two.

    Raises:
        Refused: no key has this name.
    """
    with locked():
        keys = read()
        if all(key.name != name for key in keys):
            raise Refused(f"no key is named {name!r}; `python -m deploy keys list` names them")
        _write([key for key in keys if key.name != name])


def _write(keys: list[Key]) -> None:
    lines = [f'"{key.key}" {key.name}; # created {key.created}\n' for key in keys]
    replace(gateway() / "keys.conf", "".join(lines).encode())
