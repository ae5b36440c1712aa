"""What the registry prints, read back with Prometheus's own parser."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local import metrics, prometheus
from deploy.local.errors import Code, ServingError


@pytest.fixture(autouse=True)
def _nothing_else_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_registry", [])


def samples() -> dict[str, list[Any]]:
    families = text_string_to_metric_families(prometheus.page())
    return {family.name: family.samples for family in families}


def test_a_counter() -> None:
    counter = prometheus.Counter("serving:requests", ["model", "status"])
    counter.increment(model="m", status="OK")
    counter.increment(3, model="m", status="OK")
    counter.increment(model='quoted " and \\ and\nbroken', status="OK")
    assert prometheus.page().splitlines()[:2] == [
        "# TYPE :tensorflow:serving:requests counter",
        ':tensorflow:serving:requests{model="m",status="OK"} 4',
    ]
    first, second = samples()[":tensorflow:serving:requests"]
    assert (first.labels, first.value) == ({"model": "m", "status": "OK"}, 4)
    assert second.labels["model"] == 'quoted " and \\ and\nbroken'


def test_large_numbers_keep_their_digits() -> None:
    prometheus.Counter("c").increment(123_456_789_012)
    assert ":tensorflow:c{} 123456789012\n" in prometheus.page()


def test_a_histogram_is_cumulative_and_excludes_upper_bounds() -> None:
    histogram = prometheus.Histogram("h", ["model"], [1, 10, 1.5e7])
    for value in (0, 1, 9.5, 2e7):
        histogram.observe(value, model="m")
    assert prometheus.page() == (
        "# TYPE :tensorflow:h histogram\n"
        ':tensorflow:h_bucket{model="m",le="1"} 1\n'
        ':tensorflow:h_bucket{model="m",le="10"} 3\n'
        ':tensorflow:h_bucket{model="m",le="1.5e+07"} 3\n'
        ':tensorflow:h_bucket{model="m",le="+Inf"} 4\n'
        ':tensorflow:h_sum{model="m"} 2e+07\n'
        ':tensorflow:h_count{model="m"} 4\n'
    )
    assert [sample.value for sample in samples()[":tensorflow:h"]][-1] == 4


def test_labels_must_be_the_declared_ones() -> None:
    counter = prometheus.Counter("c", ["model"])
    with pytest.raises(ValueError, match="has the labels"):
        counter.increment(status="OK")


def test_latencies_reach_from_ten_microseconds_to_twenty_minutes() -> None:
    bounds = metrics.request_latency._bounds
    assert (len(bounds), bounds[0]) == (33, 10)
    assert bounds[1:] == pytest.approx([bound * 1.8 for bound in bounds[:-1]])
    assert 20 < bounds[-1] / 60e6 < 30


def test_failures_are_counted_but_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["model_name", "API", "entrypoint"]
    monkeypatch.setattr(metrics, "request_count", prometheus.Counter("n", ["model_name", "status"]))
    monkeypatch.setattr(metrics, "request_latency", prometheus.Histogram("t", labels, []))
    for error in (ServingError(Code.NOT_FOUND, "no"), RuntimeError()):
        with pytest.raises(type(error)), metrics.request("m", "Predict", "GRPC"):
            raise error
    assert [sample.labels["status"] for sample in samples()[":tensorflow:n"]] == [
        "INTERNAL",
        "NOT_FOUND",
    ]
    assert samples()[":tensorflow:t"] == []


def test_loads_and_warm_ups_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["model_path", "status"]
    for name in ("load_attempt_count", "warmup_records_read"):
        monkeypatch.setattr(metrics, name, prometheus.Counter(name, labels))
    error = ServingError(Code.DATA_LOSS, "gone")
    for block in (metrics.load(Path("/m/1")), metrics.warmup(Path("/m/1"), lambda: 7)):
        with pytest.raises(ServingError), block:
            raise error
    (attempt,) = samples()[":tensorflow:load_attempt_count"]
    assert attempt.labels == {"model_path": "/m/1", "status": "fail"}
    (records,) = samples()[":tensorflow:warmup_records_read"]
    assert (records.labels["status"], records.value) == ("DATA_LOSS: gone", 7)
