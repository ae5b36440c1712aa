"""`make demo`, on a bare clone and again, against an earlier build by turns, with its limits.

`BEFORE` names a checkout of that build; without it there are this build's figures alone. What both
install comes from the package cache after the first round, which does not count. Prints a table in
Markdown; exit status 1 if a limit is missed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.bench.paired import Row, tell

ROUNDS = 3
HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trial:
    """What a clone took: seconds of its first `make demo` and of its second, bytes of `.venv`."""

    first: float
    disk: float
    again: float


def main() -> int:
    """Measure, and tell."""
    before = os.environ.get("BEFORE")
    builds = [HERE, Path(before)] if before else [HERE]
    return tell(_rows([[_try(build) for build in builds] for _ in range(ROUNDS + 1)][1:]))


def _rows(rounds: list[list[Trial]]) -> Iterator[Row]:
    ours, *peer = (
        Trial(*map(statistics.median, zip(*map(astuple, trials), strict=True)))
        for trials in zip(*rounds, strict=True)
    )
    yield _against("`make demo` on a bare clone, s", "first", 1, 0.4, ours, peer)
    yield _against("its environment, GB", "disk", 1e9, 0.7, ours, peer)
    figure = "`make demo`, installed and with a model, s"
    yield Row(figure, f"{ours.again:.1f}", "–", ours.again, 7, at_most=True)


def _against(
    figure: str, name: str, unit: float, limit: float, ours: Trial, peer: list[Trial]
) -> Row:
    mine = getattr(ours, name) / unit
    if not peer:
        return Row(figure, f"{mine:.1f}", "–", mine, None)
    theirs = getattr(peer[0], name) / unit
    return Row(figure, f"{mine:.1f}", f"{theirs:.1f}", mine / theirs, limit, at_most=True)


def _try(build: Path) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", build, clone], check=True)
        first = _seconds(clone)
        files = {os.lstat(path).st_ino: os.lstat(path) for path in (clone / ".venv").rglob("*")}
        disk = sum(512 * file.st_blocks for file in files.values())
        return Trial(first, disk, _seconds(clone))


def _seconds(clone: Path) -> float:
    print(f"make demo in {clone} …", file=sys.stderr, flush=True)
    started = time.perf_counter()
    subprocess.run(["make", "demo"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
