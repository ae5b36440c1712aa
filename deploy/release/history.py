"""Who released what, when, why, and how it went: lines that are only ever added to a log.

A release has one line at its start and one at its end. If its command was killed in between, the
next command adds the line of its end.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from deploy import FOLDER
from deploy.operate.stack.status import table

FILE = FOLDER / "machine" / "releases.jsonl"
DONE = "done"


class Log(Protocol):
    """Where the lines are."""

    def read(self) -> str:
        """All of them."""

    def add(self, line: str) -> None:
        """Add one, for good."""


class Machine:
    """This machine's own, in `FILE`."""

    def read(self) -> str:
        """All of them."""
        return FILE.read_text() if FILE.exists() else ""

    def add(self, line: str) -> None:
        """Add one, for good; after one that was cut off as well."""
        torn = FILE.exists() and FILE.stat().st_size and not FILE.read_bytes().endswith(b"\n")
        with FILE.open("ab") as file:
            file.write(("\n" if torn else "").encode() + f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Entry:
    """One release, also one that failed.

    Attributes:
        id: identifies its lines.
        at: when it began, in UTC, as ISO 8601.
        who: user and machine.
        model: its name.
        action: the command: promote or rollback.
        before: the version that was live; None: none, or the newest.
        to: the version to make live; None: the newest.
        why: the reason that the operator gave.
        outcome: `done`, or a sentence why not; "" while it runs, or if it was killed.
    """

    id: str
    at: str
    who: str
    model: str
    action: str
    before: int | None
    to: int | None
    why: str
    outcome: str = ""


def begin(log: Log, model: str, action: str, before: int | None, to: int | None, why: str) -> Entry:
    """Record the start of a release."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = f"{user}@{socket.gethostname()}"
    entry = Entry(secrets.token_hex(4), now, who, model, action, before, to, why)
    _add(log, {name: value for name, value in asdict(entry).items() if name != "outcome"})
    return entry


def end(log: Log, entry: Entry, outcome: str) -> None:
    """Record its outcome."""
    _add(log, {"id": entry.id, "outcome": outcome})


def read(log: Log, model: str | None = None) -> list[Entry]:
    """All releases, of one model or of every, the oldest first."""
    entries: dict[str, Entry] = {}
    for line in log.read().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # the machine went down while it was written
        if "model" not in fields and fields["id"] not in entries:
            continue  # it began before the oldest line that is kept
        known = entries.get(fields["id"])
        entries[fields["id"]] = (
            replace(known, outcome=fields["outcome"]) if known else Entry(**fields)
        )
    return [entry for entry in entries.values() if model in (None, entry.model)]


def live_before(log: Log, model: str, stable: int) -> int | None:
    """The version that was live before this one; None if that is not recorded.

    Versions that were rolled back are skipped.
    """
    live: list[int] = []
    for entry in read(log, model):
        if entry.outcome != DONE or entry.to is None:  # a canary ends in another way
            continue
        if entry.action == "rollback":
            live = live[: _last(live, entry.to)] if entry.to in live else []
            live.append(entry.to)
            continue
        if entry.before is not None and entry.before not in live[-1:]:
            live.append(entry.before)
        if entry.to not in live[-1:]:
            live.append(entry.to)
    return live[_last(live, stable) - 1] if stable in live[1:] else None


def _last(numbers: Sequence[int], number: int) -> int:
    return len(numbers) - 1 - numbers[::-1].index(number)


def as_json(entries: Sequence[Entry]) -> str:
    """The entries as one JSON object."""
    return json.dumps({"releases": [asdict(entry) for entry in entries]})


def lines(entries: Sequence[Entry]) -> list[str]:
    """The entries as aligned text."""
    text: list[Sequence[str]] = [("WHEN", "WHO", "MODEL", "WHAT", "FROM", "TO", "OUTCOME", "WHY")]
    for entry in entries:
        before, to = ("newest" if one is None else str(one) for one in (entry.before, entry.to))
        what = (entry.at, entry.who, entry.model, entry.action)
        text.append((*what, before, to, entry.outcome or "not ended", entry.why))
    return table(text)


def _add(log: Log, fields: dict[str, object]) -> None:
    log.add(json.dumps(fields, ensure_ascii=False))
