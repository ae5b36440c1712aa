"""The API keys of the gateway: one line each in a file that nginx includes in a map."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from deploy.operate.access.secret_files import Folder
from deploy.operate.access.store import KEYS, Store
from deploy.operate.errors import InputError, Refused

OVERLAP = 7  # days that a key still works after its successor was made
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # the gateway's start.sh compares it in this form
_LINE = re.compile(
    r'"(?P<key>[^"]+)" (?P<name>\S+); # created (?P<created>\d{4}-\d\d-\d\d)'
    r"(?:, ends (?P<ends>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ))?"
)
_NAME = re.compile(r"[a-z0-9-]{1,32}")
_WITHOUT_KEY = "local"  # what the gateway calls callers on this machine
_FOLDER = Folder()


@dataclass(frozen=True, slots=True)
class Key:
    """A key, its owner's name, the day it was made and when it expires, if it does (UTC)."""

    key: str
    name: str
    created: date
    ends: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether the gateway refuses it."""
        return self.ends is not None and self.ends <= datetime.now(UTC)


def read(store: Store = _FOLDER) -> list[Key]:
    """All keys, in the order they were made, expired ones included.

    Args:
        store: where they are, in all functions here: this machine's folder, or a cluster.

    Raises:
        Refused: the file holds a line that `create` does not write.
    """
    keys = []
    for number, line in enumerate((store.read(KEYS) or b"").decode().splitlines(), 1):
        if not (found := _LINE.fullmatch(line)):
            raise Refused(
                f"{store.called(KEYS)}:{number} is no line of `python -m deploy keys`; "
                "fix or delete it"
            )
        ends = (
            datetime.strptime(found["ends"], _TIME).replace(tzinfo=UTC) if found["ends"] else None
        )
        keys.append(Key(found["key"], found["name"], date.fromisoformat(found["created"]), ends))
    return keys


def create(name: str, days: int | None = None, *, store: Store = _FOLDER) -> Key:
    """Create a key; the gateway accepts it within a second or two (`waiting`).

    Args:
        name: its owner.
        days: until it expires; None: it does not.
        store: where to write it.

    Raises:
        InputError: a name that nginx or a log could not hold.
        Refused: the name has a key.
    """
    if not _NAME.fullmatch(name) or name == _WITHOUT_KEY:
        raise InputError(
            f"{name!r} is not a valid name: expected 1 to 32 of a to z, 0 to 9 and -, and not "
            f"{_WITHOUT_KEY!r}"
        )
    made = _new(name, days)

    def added(keys: list[Key]) -> list[Key]:
        if any(key.name == name and not key.ended for key in keys):
            raise Refused(
                f"{name} has a key; `python -m deploy keys rotate {name}` makes a new one, "
                f"`python -m deploy keys revoke {name}` revokes it"
            )
        return [*(key for key in keys if key.name != name), made]

    _change(store, added)
    return made


def rotate(
    name: str, days: int | None = None, overlap: int = OVERLAP, *, store: Store = _FOLDER
) -> Key:
    """Create a new key for a name; its old keys expire `overlap` days from now, if not before.

    Args:
        name: its owner.
        days: until the new key expires; None: as many as for the last one.
        overlap: days.
        store: where the keys are.

    Raises:
        Refused: no key has this name, or it has expired.
    """

    def rotated(keys: list[Key]) -> list[Key]:
        live = [key for key in keys if key.name == name and not key.ended]
        if not live:
            raise Refused(
                f"{name} has no key that works; `python -m deploy keys create {name}` makes one"
            )
        last, good_for = live[-1], days
        if good_for is None and last.ends:
            good_for = max(1, (last.ends.date() - last.created).days)
        until = _in(overlap)
        ending = [
            replace(key, ends=min(key.ends or until, until)) if key in live else key for key in keys
        ]
        return [*ending, _new(name, good_for)]

    return _change(store, rotated)[-1]


def revoke(name: str, *, store: Store = _FOLDER) -> None:
    """Revoke all keys of a name; the gateway refuses them within a second or two.

    Raises:
        Refused: no key has this name.
    """

    def without(keys: list[Key]) -> list[Key]:
        if all(key.name != name for key in keys):
            raise Refused(f"no key is named {name!r}; `python -m deploy keys list` shows all names")
        return [key for key in keys if key.name != name]

    _change(store, without)


def _change(store: Store, change: Callable[[list[Key]], list[Key]]) -> list[Key]:
    """Change all keys and return them; a key of another writer is never lost."""

    def work() -> list[Key]:
        keys = change(read(store))
        store.write({KEYS: "".join(map(_line, keys)).encode()})
        return keys

    return store.alone(work, KEYS)


def _new(name: str, days: int | None) -> Key:
    # An nginx map ignores case, so keys are lower case.
    key = f"dk_{secrets.token_hex(16)}"
    return Key(key, name, datetime.now(UTC).date(), None if days is None else _in(days))


def _in(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _line(key: Key) -> str:
    ends = f", ends {key.ends:{_TIME}}" if key.ends else ""
    return f'"{key.key}" {key.name}; # created {key.created}{ends}\n'
