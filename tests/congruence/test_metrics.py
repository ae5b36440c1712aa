"""The metrics page after known traffic."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from tests.congruence.more import floats, post, predict
from tests.congruence.servers import Server
from tests.congruence.stage import Stage

PAGE = {"verb": "GET", "path": "/monitoring/prometheus/metrics"}
NAME = ":tensorflow:serving:"
_LINE = re.compile(r"(?P<name>[\w:]+)(\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, frozenset[tuple[str, str]]]


def sample(name: str, **labels: str) -> Sample:
    return NAME + name, frozenset(labels.items())


def page(server: Server) -> str:
    answer = server.ask(PAGE)
    assert (answer["status"], answer["type"]) == (200, "text/plain")
    return str(answer["body"])


def samples(text: str) -> Counter[Sample]:
    found: Counter[Sample] = Counter()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match, line
            labels = frozenset(_LABEL.findall(match["labels"] or ""))
            found[match["name"], labels] = float(match["value"])  # type: ignore[assignment]
    return found


@pytest.fixture(scope="module")
def server(stage: Stage) -> Server:
    return stage.server("single")


def test_traffic_is_counted(server: Server) -> None:
    good, unknown = (predict(name, {"x": floats(1.0)}) for name in ("line", "nobody"))
    traffic: list[tuple[int, dict[str, Any]]] = [
        (3, good),
        (1, unknown),
        (2, post("line", '{"instances": [1.0]}')),
        (4, post("line", '{"instances": ["a"]}')),
        (1, {"verb": "GET", "path": "/v1/models/line"}),
    ]
    before = samples(page(server))
    for times, request in traffic:
        for _ in range(times):
            server.ask(request)
    after = samples(page(server))
    grown = {
        sample("request_count", model_name="line", status="OK"): 3 + 2 + 1,
        sample("request_count", model_name="line", status="INVALID_ARGUMENT"): 4,
        sample("request_count", model_name="nobody", status="NOT_FOUND"): 1,
        sample("request_latency_count", model_name="line", API="Predict", entrypoint="GRPC"): 3,
        sample("request_latency_count", model_name="line", API="predict", entrypoint="REST"): 2,
        sample("request_latency_count", model_name="line", API="", entrypoint="REST"): 1,
    }
    assert {key: after[key] - before[key] for key in grown} == grown


def test_a_histogram_is_whole(server: Server) -> None:
    server.ask(post("line", '{"instances": [1.0]}'))
    text = page(server)
    assert f"# TYPE {NAME}request_count counter" in text
    assert f"# TYPE {NAME}request_latency histogram" in text
    labels = {"model_name": "line", "API": "predict", "entrypoint": "REST"}
    found = samples(text)
    buckets = [
        (dict(pairs)["le"], count)
        for (name, pairs), count in found.items()
        if name == f"{NAME}request_latency_bucket" and labels.items() <= dict(pairs).items()
    ]
    assert [float(le) for le, _ in buckets[:3]] == pytest.approx([10, 18, 32.4])
    assert buckets[-1] == ("+Inf", found[sample("request_latency_count", **labels)])
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert found[sample("request_latency_sum", **labels)] > 0
