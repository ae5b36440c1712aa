from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.release import sides
from deploy.release.verdict import quantile
from tests.deploy.monitoring.prometheus import until
from tests.deploy.release.measured import Measured, going_on, measured


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Measured]:
    with measured(tmp_path) as made:
        yield made


def test_both_sides_are_measured_apart(made: Measured) -> None:
    slow = {"failed": 1, "seconds": 0.4, "server_seconds": 0.3, "answers": [7, 7, 7, 1]}
    with going_on(made, candidate=slow):

        def enough() -> bool:
            stable, candidate = sides.measured(made.prometheus.url, "mnist", 60)
            return min(stable.requests, candidate.requests) > 100 and bool(stable.server)

        until(enough, "requests of both sides")
        stable, candidate = sides.measured(made.prometheus.url, "mnist", 60)
    assert stable.failed == 0
    assert candidate.failed / candidate.requests == pytest.approx(0.5, abs=0.05)
    for part in (0.5, 0.99):
        assert 0.0025 < quantile(stable.gateway, part) <= 0.005
        assert 0.25 < quantile(candidate.gateway, part) <= 0.5
        assert 0.002 / 1.8 < quantile(stable.server, part) < 0.002 * 1.8
        assert 0.3 / 1.8 < quantile(candidate.server, part) < 0.3 * 1.8
    assert (stable.server_mean, candidate.server_mean) == pytest.approx((0.002, 0.3))
    assert len({round(rows) for rows in stable.answers.values()}) <= 2
    assert candidate.answers["7"] == pytest.approx(3 * candidate.answers["1"])
    assert stable.confidence == pytest.approx(0.98)


def test_a_prometheus_that_does_not_answer_is_named(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(sides.Unmeasured, match=f"Prometheus at {url} does not answer"):
        sides.measured(url, "mnist", 60)
