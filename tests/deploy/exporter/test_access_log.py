"""Lines of the gateway's log, as nginx sends them, and what they are counted as."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from deploy.exporter.access_log import AccessLog
from deploy.exporter.models import Models

PREDICT = "/v1/models/mnist:predict"
GRPC = "/tensorflow.serving."
LINE = {
    "time": "2026-11-23T04:00:00+00:00",
    "key": "alice",
    "key_ends": "",
    "client": "192.0.2.7",
    "method": "POST",
    "path": PREDICT,
    "model": "mnist",
    "version": "",
    "label": "",
    "status": 200,
    "grpc_status": "",
    "seconds": 0.004,
    "upstream": "172.18.0.3:8501",
    "upstream_status": "200",
    "upstream_seconds": "0.003",
    "bytes_in": 900,
    "bytes_out": 200,
    "id": "4f3c",
}


def line(**fields: Any) -> bytes:
    return b"<190>Nov 23 04:00:00 gateway nginx: " + json.dumps(LINE | fields).encode()


class Counts:
    """A log, and the numbers that it came to."""

    def __init__(self, models: Models, samples: Any) -> None:
        self._registry, self._samples = CollectorRegistry(), samples
        self.log = AccessLog(self._registry, models)

    def __call__(self, name: str) -> dict[tuple[str, ...], float]:
        """Label values, without the side where it is the stable one → number."""
        seen = self._samples(self._registry)
        return {
            tuple(label for label in key[1:] if label != "stable"): value
            for key, value in seen.items()
            if key[0] == name and value
        }

    @property
    def requests(self) -> dict[tuple[str, ...], float]:
        """key, model, method, status, outcome → number."""
        return self("digits_gateway_requests_total")


@pytest.fixture
def counts(models: Models, samples: Any) -> Counts:
    return Counts(models, samples)


@pytest.mark.parametrize(
    ("path", "method", "counted"),
    [
        (PREDICT, "POST", "predict"),
        ("/v1/models/mnist/versions/3:classify", "POST", "classify"),
        ("/v1/models/mnist/labels/stable:regress", "POST", "regress"),
        ("/v1/models/mnist", "GET", "status"),
        ("/v1/models/mnist/versions/3", "GET", "status"),
        ("/v1/models/mnist/metadata", "GET", "metadata"),
        ("/v1/models/mnist:explode", "POST", "other"),
        (GRPC + "PredictionService/Predict", "POST", "predict"),
        (GRPC + "PredictionService/Classify", "POST", "classify"),
        (GRPC + "PredictionService/Regress", "POST", "regress"),
        (GRPC + "PredictionService/MultiInference", "POST", "multi_inference"),
        (GRPC + "PredictionService/GetModelMetadata", "POST", "metadata"),
        (GRPC + "ModelService/GetModelStatus", "POST", "status"),
        (GRPC + "ModelService/HandleReloadConfigRequest", "POST", "other"),
        ("/monitoring/prometheus/metrics", "GET", "other"),
    ],
)
def test_methods(path: str, method: str, counted: str, counts: Counts) -> None:
    counts.log.count(line(path=path, method=method))
    assert counts.requests == {("alice", "mnist", counted, "200", "answered"): 1}


def test_the_sides_of_a_canary_are_told_apart(counts: Counts) -> None:
    for side in ("stable", "candidate", "candidate", "no side"):
        counts.log.count(line(side=side, answers="7:0.5", answering="mnist"))
    one = ("alice", "mnist", "predict", "200", "answered")
    assert counts.requests == {one: 1, (*one, "candidate"): 2}
    for name in ("digits_gateway_request_seconds_count", "digits_answer_confidence_count"):
        assert sorted(counts(name).values()) == [1, 2]
    assert counts("digits_answers_total") == {("mnist", "7"): 1, ("mnist", "7", "candidate"): 2}
    assert counts("digits_gateway_bad_lines_total") == {(): 1}


@pytest.mark.parametrize("path", ["/", "/page.css", "/healthz"])
def test_files_of_the_page(path: str, counts: Counts) -> None:
    counts.log.count(line(path=path, method="GET", key="", model="", upstream=""))
    assert counts.requests == {("", "", "page", "200", "answered"): 1}


@pytest.mark.parametrize(
    ("status", "grpc_status", "upstream_status", "label", "outcome"),
    [
        (200, "", "200", "200", "answered"),
        (200, "0", "200", "grpc 0", "answered"),
        (304, "", "", "304", "answered"),
        # The server says no.
        (400, "", "400", "400", "rejected"),
        (404, "", "502, 404", "404", "rejected"),
        *((200, str(code), "200", f"grpc {code}", "rejected") for code in (3, 5, 9, 11, 12)),
        # The gateway does, and asks no server.
        *((status, "", "", str(status), "refused") for status in (401, 403, 404, 408, 413, 429)),
        *((200, str(code), "", f"grpc {code}", "refused") for code in (7, 8, 12, 16)),
        (401, "16", "", "grpc 16", "refused"),
        # Or while it asks one: a message over gRPC goes there as it comes.
        *((status, "", "-", str(status), "refused") for status in (400, 408)),
        (200, "8", "-", "grpc 8", "refused"),
        (200, "8", "502, -", "grpc 8", "refused"),
        # Somebody's fault.
        (429, "", "429", "429", "failed"),
        (500, "", "500", "500", "failed"),
        (502, "", "502, 502", "502", "failed"),
        (503, "", "502", "503", "failed"),
        (503, "", "", "503", "failed"),
        *((200, str(code), "200", f"grpc {code}", "failed") for code in (2, 4, 8, 13, 14, 15)),
        (200, "14", "502", "grpc 14", "failed"),
        (200, 14, "", "grpc 14", "failed"),
    ],
)
def test_outcomes(
    status: int, grpc_status: Any, upstream_status: str, label: str, outcome: str, counts: Counts
) -> None:
    counts.log.count(line(status=status, grpc_status=grpc_status, upstream_status=upstream_status))
    assert counts.requests == {("alice", "mnist", "predict", label, outcome): 1}
    assert counts("digits_gateway_request_seconds_count") == {("mnist", "predict", outcome): 1}


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(0.0, "rejected"), (0.249, "rejected"), (0.25, "failed"), (9, "failed")],
)
def test_who_gives_up_after_what_is_promised_was_failed(
    seconds: float, outcome: str, counts: Counts
) -> None:
    counts.log.count(line(status=499, upstream_status="-", seconds=seconds))
    assert counts.requests == {("alice", "mnist", "predict", "499", outcome): 1}


def test_only_configured_models_become_labels(counts: Counts) -> None:
    for model in ("mnist", "second", *map(str, range(1000)), ""):
        counts.log.count(line(model=model))
    by_model = {model: number for (_, model, *_), number in counts.requests.items()}
    assert by_model == {"mnist": 1, "second": 1, "other": 1000, "": 1}


def test_times(counts: Counts) -> None:
    for seconds in (0, 0.004, 0.25, 60):
        counts.log.count(line(seconds=seconds))
    buckets = counts("digits_gateway_request_seconds_bucket")
    assert buckets["mnist", "predict", "answered", "0.005"] == 2
    assert buckets["mnist", "predict", "answered", "0.25"] == 3
    assert buckets["mnist", "predict", "answered", "+Inf"] == 4
    assert counts("digits_gateway_request_seconds_sum") == {
        ("mnist", "predict", "answered"): 60.254
    }


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in LINE.items() if name != field}).encode()


BAD = [
    b"",
    b"{",
    b"[1]",
    b"\xff\xfe{}",
    b'{"a":' * 5000,
    line()[:-9],
    line() + b"{}",
    *map(without, ("key", "model", "path", "status", "grpc_status", "seconds")),
    line(status="many"),
    line(status=99),
    line(status=None),
    line(grpc_status="17"),
    line(grpc_status="?"),
    line(path=None),
    line(key_ends="soon"),
    line(answers="7"),
    line(answers="7:0.9:1"),
    line(answers="32:0.9"),
    line(answers="-1:0.9"),
    line(answers="7:1.01"),
    line(answers="7:nan"),
    line(seconds="-"),
    line(seconds=-1),
    line(seconds=float("nan")),
    line(seconds=float("inf")),
]


def test_bad_lines_are_counted_and_harm_nothing(counts: Counts) -> None:
    for bad in BAD:
        counts.log.count(bad)
    assert counts("digits_gateway_bad_lines_total") == {(): len(BAD)}
    assert counts.requests == {}
    counts.log.count(line())
    assert len(counts.requests) == 1


def test_the_end_of_a_key_is_told_until_its_successor_is_used(counts: Counts) -> None:
    name, ends = "digits_key_expiry_timestamp_seconds", datetime(2026, 12, 23, 10, tzinfo=UTC)
    counts.log.count(line(key="bob"))
    assert counts(name) == {}
    counts.log.count(line(key_ends=f"{ends:%Y-%m-%dT%H:%M:%SZ}"))
    counts.log.count(line(key="", status=401, upstream_status=""))
    assert counts(name) == {("alice",): ends.timestamp()}
    counts.log.count(line())
    assert counts(name) == {}


def test_answers_are_counted_by_model_digit_and_confidence(counts: Counts) -> None:
    counts.log.count(line(answers="7:0.98 3:0.55 7:1.000"))
    counts.log.count(line(answers=""))
    counts.log.count(line())  # by a gateway that has read its configuration before there were any
    counts.log.count(line(model="", answering="second", answers="7:0.5"))  # over gRPC
    counts.log.count(line(model="", answering="unheard of", answers="1:0.5"))
    assert counts("digits_answers_total") == {
        ("mnist", "7"): 2,
        ("mnist", "3"): 1,
        ("second", "7"): 1,
        ("other", "1"): 1,
    }
    buckets = counts("digits_answer_confidence_bucket")
    assert [buckets["mnist", most] for most in ("0.6", "0.99", "1.0")] == [1, 2, 3]
    assert counts("digits_answer_confidence_sum")["mnist",] == pytest.approx(2.53)


@given(
    datagrams=st.lists(
        st.binary()
        | st.binary().map(lambda noise: line() + noise)
        | st.dictionaries(st.sampled_from([*LINE]), st.integers() | st.text() | st.floats()).map(
            lambda fields: line(**fields)
        )
    )
)
def test_any_datagram_is_counted_once(datagrams: list[bytes]) -> None:
    registry = CollectorRegistry()
    log = AccessLog(registry, Models(Path("no file")))
    for datagram in datagrams:
        log.count(datagram)
    totals = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
    assert sum(totals) == len(datagrams)
