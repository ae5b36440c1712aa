"""Whether a candidate is as good as the stable version, by the measurements of both.

Both sides are measured over the same time, by the same gateway. A candidate is bad if it differs
by more than chance explains and by more than is allowed; with too few requests there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST = 100  # requests of a side, and rows of answers, needed for a verdict
_SIGMAS = 4.0  # standard deviations beyond which a difference is not chance
_MORE_FAILURES = 0.005  # of the requests
_SLOWER = 1.5  # times the stable side's latency
_SLOWER_BY, _P99_SLOWER_BY = 0.0015, 0.01  # seconds: a server that is asked less often is slower
_OTHER_ANSWERS = 0.1  # of the answers may go to other classes
_LESS_SURE = 0.1  # of the mean probability of the most probable class

Histogram = Mapping[float, float]  # upper bound in seconds → requests that took at most that


@dataclass(frozen=True, slots=True)
class Side:
    """The measurements of one side.

    Attributes:
        requests: that reached a server, including failed ones.
        failed: of these.
        gateway: seconds of answered predictions at the gateway.
        server: seconds of requests at the server itself.
        server_mean: their mean, or NaN.
        answers: class → rows, of the answers that the gateway sampled.
        confidence: their mean probability of the most probable class, or NaN.
    """

    requests: float
    failed: float
    gateway: Histogram = field(default_factory=dict)
    server: Histogram = field(default_factory=dict)
    server_mean: float = math.nan
    answers: Mapping[str, float] = field(default_factory=dict)
    confidence: float = math.nan


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison.

    Attributes:
        good: True, False, or None if there is no verdict yet.
        figures: the comparisons, a sentence each.
        reasons: why it is bad, or what is missing; a part of the figures.
    """

    good: bool | None
    figures: list[str]
    reasons: list[str]


def judge(stable: Side, candidate: Side) -> Verdict:
    """Compare the two sides."""
    bad: list[str] = []
    figures: list[str] = []

    def compare(sentence: str, is_bad: bool) -> None:
        figures.append(sentence)
        if is_bad:
            bad.append(sentence)

    if candidate.requests and stable.requests:
        ours, theirs = (side.failed / side.requests for side in (candidate, stable))
        pooled = (candidate.failed + stable.failed) / (candidate.requests + stable.requests)
        chance = math.sqrt(pooled * (1 - pooled) * (1 / candidate.requests + 1 / stable.requests))
        compare(
            f"{ours:.2%} of {candidate.requests:.0f} requests failed, "
            f"{theirs:.2%} of {stable.requests:.0f} with the stable version",
            candidate.failed >= 3 and ours - theirs > max(_MORE_FAILURES, _SIGMAS * chance),
        )
    few = [
        f"too few requests of {name}: {side.requests:.0f}, at least {LEAST} are needed"
        for name, side in (("the candidate", candidate), ("the stable version", stable))
        if side.requests < LEAST
    ]
    if not few:
        for where, candidates, stables in (
            ("gateway", candidate.gateway, stable.gateway),
            ("server", candidate.server, stable.server),
        ):
            compare(
                f"p99 at the {where} {_ms(quantile(candidates, 0.99))}, "
                f"{_ms(quantile(stables, 0.99))} with the stable version",
                _is_slower(candidates, stables, 0.99, _P99_SLOWER_BY),
            )
        # A few slow requests raise the mean, and a bound of the histogram moves the median: a
        # version that is slower does both.
        compare(
            f"mean at the server {_ms(candidate.server_mean)}, {_ms(stable.server_mean)} with the "
            "stable version",
            _is_beyond(candidate.server_mean, stable.server_mean, _SLOWER_BY)
            and _is_slower(candidate.server, stable.server, 0.5, _SLOWER_BY),
        )
    rows = [sum(side.answers.values()) for side in (candidate, stable)]
    if min(rows) >= LEAST:
        moved, chance = _moved(candidate.answers, stable.answers)
        compare(
            f"{moved:.1%} of the answers went to other classes",
            moved > max(_OTHER_ANSWERS, chance),
        )
        compare(
            f"mean confidence {candidate.confidence:.3f}, {stable.confidence:.3f} with the stable "
            "version",
            candidate.confidence < stable.confidence - _LESS_SURE,
        )
    if bad:
        return Verdict(False, figures, bad)
    return Verdict(None if few else True, [*figures, *few], few)


def quantile(latency: Histogram, part: float) -> float:
    """Seconds that this part of the requests takes at most; NaN without requests.

    Within a bucket they are spread evenly, as Prometheus' `histogram_quantile` has it; above the
    last finite bound it is that bound.
    """
    rank = part * _count(latency)
    lower = below = 0.0
    for bound, count in sorted(latency.items()):
        if bound == math.inf:
            break
        if count >= rank > below:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower if rank > 0 else math.nan


def _count(latency: Histogram) -> float:
    return max(latency.values(), default=0.0)


def _is_slower(ours: Histogram, theirs: Histogram, part: float, by: float) -> bool:
    """Whether a quantile is worse by more than chance explains.

    The share of requests below a quantile varies like any share, so ours is taken that much lower.
    """
    n, m = _count(ours), _count(theirs)
    if not n or not m:
        return False
    chance = math.sqrt(part * (1 - part) * (1 / n + 1 / m))
    return _is_beyond(quantile(ours, part - _SIGMAS * chance), quantile(theirs, part), by)


def _ms(seconds: float) -> str:
    return "unknown" if math.isnan(seconds) else f"{seconds * 1e3:.1f} ms"


def _is_beyond(ours: float, theirs: float, by: float) -> bool:
    return ours > max(_SLOWER * theirs, theirs + by)


def _moved(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float]:
    """The share of answers that went to other classes, and how much of it chance explains.

    Half of the summed differences of the shares; each of them has the deviation of a share of so
    many rows, and the sum of independent ones is seldom above its mean and four deviations.
    """
    n, m = sum(ours.values()), sum(theirs.values())
    moved = chance = variance = 0.0
    for each in ours.keys() | theirs.keys():
        ours_share, theirs_share = ours.get(each, 0) / n, theirs.get(each, 0) / m
        moved += abs(ours_share - theirs_share) / 2
        pooled = (ours.get(each, 0) + theirs.get(each, 0)) / (n + m)
        of_one = pooled * (1 - pooled) * (1 / n + 1 / m)
        chance += math.sqrt(of_one * 2 / math.pi) / 2  # the mean of |N(0, of_one)|
        variance += of_one * (1 - 2 / math.pi) / 4
    return moved, chance + _SIGMAS * math.sqrt(variance)
