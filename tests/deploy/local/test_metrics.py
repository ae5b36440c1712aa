"""Metrics of a server process after traffic that is known."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

PATH = "/monitoring/prometheus/metrics"
PREFIX = ":tensorflow:"


def read(server: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample but the buckets, by name and labels."""
    status, kind, text = server.rest("GET", PATH)
    assert (status, kind) == (200, "text/plain")
    return {
        # The parser gives every counter the ending that OpenMetrics asks for.
        (
            sample.name.removeprefix(PREFIX).removesuffix("_total"),
            frozenset(sample.labels.items()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_requests_of_both_kinds(server: Any) -> None:
    before = read(server)
    server.predict("line", x=np.array([2], np.float32))
    for _ in range(2):
        server.rest("POST", "/v1/models/line:predict", '{"instances": [1.0]}')
    server.rest("POST", "/v1/models/line:predict", "not JSON")
    server.rest("GET", "/v1/models/line/metadata")
    server.rest("GET", "/v1/nowhere")
    with pytest.raises(grpc.RpcError):
        server.predict("nosuch")
    # Not counted there either.
    server.states("line")
    after = read(server)

    def grown(name: str, **labels: str) -> float:
        return after.get(key(name, **labels), 0) - before.get(key(name, **labels), 0)

    count, latency = "serving:request_count", "serving:request_latency_count"
    assert grown(count, model_name="line", status="OK") == 4
    assert grown(count, model_name="line", status="INVALID_ARGUMENT") == 1
    assert grown(count, model_name="", status="INVALID_ARGUMENT") == 1
    assert grown(count, model_name="nosuch", status="NOT_FOUND") == 1
    assert grown(latency, model_name="line", API="Predict", entrypoint="GRPC") == 1
    assert grown(latency, model_name="line", API="predict", entrypoint="REST") == 2
    assert grown(latency, model_name="line", API="", entrypoint="REST") == 1
    runtime = "serving:runtime_latency_count"
    assert grown(runtime, model_name="line", API="Predict", runtime="TF1") == 3


def test_loads(server: Any, models: Path) -> None:
    path = str(models / "line" / "1")
    values = read(server)
    attempts = key("cc:saved_model:load_attempt_count", model_path=path, status="success")
    assert values[attempts] == 1
    assert values[key("cc:saved_model:load_latency", model_path=path)] > 0


def test_every_metric_has_its_type(server: Any) -> None:
    lines = server.rest("GET", PATH)[2].splitlines()
    types = {line.removeprefix(f"# TYPE {PREFIX}") for line in lines if line.startswith("#")}
    batching = "serving:batching_session"
    assert types >= {
        "serving:request_count counter",
        "serving:request_latency histogram",
        "serving:runtime_latency histogram",
        "serving:request_example_counts histogram",
        "serving:request_example_count_total counter",
        "serving:model_warmup_latency histogram",
        "serving:model_warmup_records_read counter",
        "cc:saved_model:load_attempt_count counter",
        "cc:saved_model:load_latency counter",
        f"{batching}:queuing_latency histogram",
        f"{batching}:padding_size histogram",
        f"{batching}:input_batch_size histogram",
        f"{batching}:processed_batch_size histogram",
        f"{batching}:wrapped_run_count counter",
    }


def test_a_query_string_is_refused(server: Any) -> None:
    text = f"Unexpected path: {PATH}?a=b. Should be {PATH}"
    assert server.rest("GET", f"{PATH}?a=b") == (400, "text/plain", text)
