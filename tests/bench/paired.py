"""Two ways to do a thing, by turns in one run, and the limit that the one is held to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ROUNDS = 9
SECONDS = 0.5  # for each side of a round
Work = Callable[[], int]  # does something, and returns how many images it answered


@dataclass(frozen=True)
class Row:
    """A line of the table; `ratio` is what the limit, if there is one, speaks of."""

    figure: str
    ours: str
    peer: str
    ratio: float
    limit: float | None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        if self.limit is None:
            return True
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit

    def __str__(self) -> str:
        bound = "–" if self.limit is None else f"{'≤' if self.at_most else '≥'} {self.limit:g}"
        verdict = "" if self.holds else " **missed**"
        return (
            f"| {self.figure} | {self.ours} | {self.peer} | {self.ratio:.2f} | {bound}{verdict} |"
        )


def tell(rows: Iterable[Row]) -> int:
    """Print a table in Markdown; the exit status: 1 if a limit is missed."""
    print("| figure | ours | peer | ratio | limit |\n| --- | --- | --- | --- | --- |")
    missed = 0
    for row in rows:
        print(row, flush=True)
        missed += not row.holds
    return 1 if missed else 0


def throughput(figure: str, ours: Work, peer: Work, limit: float | None) -> Row:
    """Images per second; the ratio is the median of the rounds' ratios."""
    rates = [_rates(ours, peer) for _ in range(ROUNDS + 1)][1:]  # the first warms up
    mine, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in rates)
    return Row(figure, f"{mine:,.0f}", f"{theirs:,.0f}", ratio, limit)


def _rates(*works: Work) -> list[float]:
    """By turns, call by call: how threads settle on cores makes half of a call's time."""
    done, taken = [0] * len(works), [0.0] * len(works)
    while min(taken) < SECONDS:
        for i, work in enumerate(works):
            started = time.perf_counter()
            done[i] += work()
            taken[i] += time.perf_counter() - started
    return [count / seconds for count, seconds in zip(done, taken, strict=True)]


def added_latency(
    figure: str, ours: Callable[[], object], peer: Callable[[], object], limit: float
) -> Row:
    """What the one takes more than the other, in milliseconds: the difference of the medians."""
    times = [(milliseconds(ours), milliseconds(peer)) for _ in range(2_000)]
    mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    figure += ", ms; the ratio is the difference"
    return Row(figure, f"{mine:.2f}", f"{theirs:.2f}", mine - theirs, limit, at_most=True)


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    started = time.perf_counter()
    work()
    return 1_000 * (time.perf_counter() - started)
