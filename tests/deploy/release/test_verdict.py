from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from deploy.local.prometheus import exponential
from deploy.release.verdict import LEAST, Histogram, Side, judge, quantile

CLASSES = [str(digit) for digit in range(10)]
EVEN = dict.fromkeys(CLASSES, 400.0)
BOUNDS = exponential(1e-5, 1.8, 33)  # as the server has them, in seconds


def _latency(requests: float, p50: float, p99: float) -> Histogram:
    """Log-normal latencies of so many requests."""
    normal = NormalDist(math.log(p50), math.log(p99 / p50) / NormalDist().inv_cdf(0.99))
    return {bound: requests * normal.cdf(math.log(bound)) for bound in BOUNDS} | {
        math.inf: requests
    }


def _drawn(chance: np.random.Generator, requests: int) -> dict[str, Any]:
    """So many requests of one distribution, of which one in a hundred takes very long."""
    seconds = chance.lognormal(math.log(0.004), 0.4, requests)
    seconds[chance.random(requests) < 0.01] *= 30
    counts = np.searchsorted(np.sort(seconds), BOUNDS, side="right").tolist()
    latency = {**dict(zip(BOUNDS, counts, strict=True)), math.inf: requests}
    return {"gateway": latency, "server": latency, "server_mean": float(seconds.mean())}


GOOD = Side(4000, 2, _latency(4000, 5e-3, 0.02), _latency(4000, 4e-3, 0.01), 0.005, EVEN, 0.97)


def _like(**changed: object) -> Side:
    """A candidate that gets a tenth of the requests, and does as well but for what is changed."""
    same = Side(
        400,
        0,
        _latency(400, 5e-3, 0.021),
        _latency(400, 4e-3, 0.011),
        0.0052,
        dict.fromkeys(CLASSES, 40.0),
        0.968,
    )
    return Side(**{name: getattr(same, name) for name in same.__slots__} | changed)


def _p99(latency: Histogram) -> str:
    return f"{1e3 * quantile(latency, 0.99):.1f} ms"


def test_one_that_does_as_well_is_good_and_its_figures_are_told() -> None:
    found = judge(GOOD, _like())
    assert (found.good, found.reasons) == (True, [])
    assert found.figures == [
        "0.00% of 400 requests failed, 0.05% of 4000 with the stable version",
        f"p99 at the gateway {_p99(_like().gateway)}, {_p99(GOOD.gateway)} with the stable version",
        f"p99 at the server {_p99(_like().server)}, {_p99(GOOD.server)} with the stable version",
        "mean at the server 5.2 ms, 5.0 ms with the stable version",
        "0.0% of the answers went to other classes",
        "mean confidence 0.968, 0.970 with the stable version",
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"failed": 12}, "3.00% of 400 requests failed"),
        ({"requests": 20, "failed": 8}, "40.00% of 20 requests failed"),
        ({"gateway": _latency(400, 5e-3, 0.15)}, "p99 at the gateway"),
        ({"server": _latency(400, 4e-3, 0.15)}, "p99 at the server"),
        (
            {"server": _latency(400, 8e-3, 0.02), "server_mean": 0.01},
            "mean at the server 10.0 ms, 5.0 ms with the stable version",
        ),
        ({"answers": {"1": 400.0}}, "90.0% of the answers went to other classes"),
        ({"answers": EVEN | {"1": 1200.0}}, "of the answers went to other classes"),
        ({"confidence": 0.7}, "mean confidence 0.700"),
    ],
)
def test_one_that_does_worse_is_bad_and_the_reason_is_told(
    changed: dict[str, object], reason: str
) -> None:
    found = judge(GOOD, _like(**changed))
    assert found.good is False
    (told,) = found.reasons
    assert reason in told


@pytest.mark.parametrize(
    "changed",
    [
        {"failed": 1},  # which is nothing yet
        {"failed": 2},
        {"gateway": _latency(400, 5e-3, 0.028)},
        {"server": _latency(400, 4e-3, 0.018)},
        {"server_mean": 0.030},  # of a few slow requests
        {"server": _latency(400, 8e-3, 0.018)},  # with the same mean: of a bound of the histogram
        {"gateway": {}, "server": {}, "server_mean": math.nan},  # of a server without metrics
        {"answers": {}, "confidence": float("nan")},  # of a model without classes
    ],
)
def test_what_chance_or_a_trifle_explains_is_good(changed: dict[str, object]) -> None:
    assert judge(GOOD, _like(**changed)).good is True


@pytest.mark.parametrize("requests", [0, 1, LEAST - 1])
def test_too_few_requests_are_no_verdict(requests: int) -> None:
    few = judge(GOOD, _like(requests=requests))
    assert few.good is None
    assert few.reasons == [
        f"too few requests of the candidate: {requests}, at least {LEAST} are needed"
    ]
    assert judge(_like(requests=requests), GOOD).good is None
    assert judge(Side(0, 0), Side(0, 0)).good is None


@pytest.mark.parametrize(("part", "seconds"), [(0.25, 0.0015), (0.5, 0.002), (0.99, 0.004)])
def test_a_quantile_is_as_prometheus_tells_it(part: float, seconds: float) -> None:
    # Half of them take 1 to 2 ms; above the last bound it is not known how long they take.
    latency = {0.001: 0.0, 0.002: 4.0, 0.004: 6.0, math.inf: 8.0}
    assert quantile(latency, part) == pytest.approx(seconds)
    assert math.isnan(quantile({}, part))


def test_chance_alone_seldom_makes_a_candidate_bad() -> None:
    chance = random.Random(1)
    drawing = np.random.default_rng(1)

    def drawn(rows: int, weights: Sequence[float]) -> Counter[str]:
        return Counter(chance.choices(CLASSES, weights, k=rows))

    weights = [chance.random() for _ in CLASSES]
    bad = sum(
        judge(
            Side(900, 9, **_drawn(drawing, 900), answers=drawn(900, weights), confidence=0.97),
            Side(
                LEAST, 1, **_drawn(drawing, LEAST), answers=drawn(LEAST, weights), confidence=0.97
            ),
        ).good
        is False
        for _ in range(1000)
    )
    assert bad <= 5
