"""The API keys that open the gateway: one line each of a file that nginx includes in a map."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from deploy.operate.access.secret_files import Folder
from deploy.operate.access.store import KEYS, Store
from deploy.operate.errors import InputError, Refused

OVERLAP = 7  # days that a key goes on after its successor was made
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # in this form the gateway's start.sh compares it
_LINE = re.compile(
    r'"(?P<key>[^"]+)" (?P<name>\S+); # created (?P<created>\d{4}-\d\d-\d\d)'
    r"(?:, ends (?P<ends>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ))?"
)
_NAME = re.compile(r"[a-z0-9-]{1,32}")
_WITHOUT_KEY = "local"  # as the gateway calls callers on this machine
_FOLDER = Folder()


@dataclass(frozen=True, slots=True)
class Key:
    """A key, the name of who holds it, the day it was made and when it ends, if it does (UTC)."""

    key: str
    name: str
    created: date
    ends: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether the gateway refuses it."""
        return self.ends is not None and self.ends <= datetime.now(UTC)


def read(store: Store = _FOLDER) -> list[Key]:
    """All keys, in the order they were made; those that have ended, too.

    Args:
        store: where they lie, as for all functions here: this machine's folder, or a cluster.

    Raises:
        Refused: the file holds a line that `create` does not write.
    """
    keys = []
    for number, line in enumerate((store.read(KEYS) or b"").decode().splitlines(), 1):
        if not (found := _LINE.fullmatch(line)):
            raise Refused(f"{store.called(KEYS)}:{number} is no line of `python -m deploy keys`")
        ends = (
            datetime.strptime(found["ends"], _TIME).replace(tzinfo=UTC) if found["ends"] else None
        )
        keys.append(Key(found["key"], found["name"], date.fromisoformat(found["created"]), ends))
    return keys


def create(name: str, days: int | None = None, *, store: Store = _FOLDER) -> Key:
    """Make a key; the gateway knows it within a second or two (`waiting`).

    Args:
        name: who holds it.
        days: that it is good for; None: until it is revoked.
        store: where it is put.

    Raises:
        InputError: a name that nginx or a log could not hold.
        Refused: the name has a key.
    """
    if not _NAME.fullmatch(name) or name == _WITHOUT_KEY:
        raise InputError(
            f"{name!r} is no name: expected 1 to 32 of a to z, 0 to 9 and -, not {_WITHOUT_KEY!r}"
        )
    made = _new(name, days)

    def added(keys: list[Key]) -> list[Key]:
        if any(key.name == name and not key.ended for key in keys):
            raise Refused(
                f"{name} has a key; `python -m deploy keys rotate {name}` makes the next one, "
                f"`python -m deploy keys revoke {name}` ends it"
            )
        return [*(key for key in keys if key.name != name), made]

    _change(store, added)
    return made


def rotate(
    name: str, days: int | None = None, overlap: int = OVERLAP, *, store: Store = _FOLDER
) -> Key:
    """Make a name's next key; those it has end `overlap` days from now, if not before.

    Args:
        name: who holds it.
        days: that the new one is good for; None: as many as the last one was, or until it is
            revoked.
        overlap: days.
        store: where they lie.

    Raises:
        Refused: no key has this name, or it has ended.
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
    """End all keys of a name; the gateway refuses them within a second or two.

    Raises:
        Refused: no key has this name.
    """

    def without(keys: list[Key]) -> list[Key]:
        if all(key.name != name for key in keys):
            raise Refused(f"no key is named {name!r}; `python -m deploy keys list` names them")
        return [key for key in keys if key.name != name]

    _change(store, without)


def _change(store: Store, change: Callable[[list[Key]], list[Key]]) -> list[Key]:
    """Write what becomes of all keys, and no other writer's key is lost; it is returned."""

    def work() -> list[Key]:
        keys = change(read(store))
        store.write({KEYS: "".join(map(_line, keys)).encode()})
        return keys

    return store.alone(work, KEYS)


def _new(name: str, days: int | None) -> Key:
    # An nginx map ignores case, so a key has none.
    key = f"dk_{secrets.token_hex(16)}"
    return Key(key, name, datetime.now(UTC).date(), None if days is None else _in(days))


def _in(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _line(key: Key) -> str:
    ends = f", ends {key.ends:{_TIME}}" if key.ends else ""
    return f'"{key.key}" {key.name}; # created {key.created}{ends}\n'
