from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from deploy.release.verdict import LEAST, Side, judge

CLASSES = [str(digit) for digit in range(10)]
EVEN = dict.fromkeys(CLASSES, 400.0)
GOOD = Side(4000, 2, 0.020, 0.010, 0.004, 0.005, EVEN, 0.97)


def _like(**changed: object) -> Side:
    """A candidate that gets a tenth of the requests, and does as well but for what is changed."""
    same = Side(400, 0, 0.021, 0.011, 0.0041, 0.0052, dict.fromkeys(CLASSES, 40.0), 0.968)
    return Side(**{name: getattr(same, name) for name in same.__slots__} | changed)


def test_one_that_does_as_well_is_good_and_its_figures_are_told() -> None:
    found = judge(GOOD, _like())
    assert (found.good, found.reasons) == (True, [])
    assert found.figures == [
        "0.00% of 400 requests failed, 0.05% of 4000 with the stable version",
        "p99 at the gateway 21.0 ms, 20.0 ms with the stable version",
        "p99 at the server 11.0 ms, 10.0 ms with the stable version",
        "mean at the server 5.2 ms, 5.0 ms with the stable version",
        "0.0% of the answers went to other classes",
        "mean confidence 0.968, 0.970 with the stable version",
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"failed": 12}, "3.00% of 400 requests failed"),
        ({"requests": 20, "failed": 8}, "40.00% of 20 requests failed"),
        ({"p99": 0.045}, "p99 at the gateway 45.0 ms"),
        ({"server_p99": 0.031}, "p99 at the server 31.0 ms"),
        ({"server_mean": 0.010, "server_p50": 0.008}, "mean at the server 10.0 ms, 5.0 ms with"),
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
        {"p99": 0.029},
        {"server_p99": 0.019},
        {"server_mean": 0.030},  # of a few slow requests
        {"server_p50": 0.0065},  # of a bound between two buckets
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


def test_chance_alone_seldom_makes_a_candidate_bad() -> None:
    chance = random.Random(1)

    def drawn(rows: int, weights: Sequence[float]) -> Counter[str]:
        return Counter(chance.choices(CLASSES, weights, k=rows))

    weights = [chance.random() for _ in CLASSES]
    bad = sum(
        judge(
            Side(9000, 9, answers=drawn(900, weights), confidence=0.97),
            _like(answers=drawn(LEAST, weights)),
        ).good
        is False
        for _ in range(1000)
    )
    assert bad <= 5
