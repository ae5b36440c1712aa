"""A real Prometheus that sees what the exporter counts of a log that a test writes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import prometheus_client
import pytest

from deploy.exporter.access_log import AccessLog
from deploy.exporter.models import Models
from deploy.local.prometheus import exponential
from deploy.runner import free_ports
from tests.deploy.monitoring.prometheus import Prometheus, again_and_again, started

_JOBS = {"stable": "serving", "candidate": "candidate"}
# As the server calls it; Python's library has no colons in names.
_RENAMED = {
    "source_labels": ["__name__"],
    "regex": "latency(.*)",
    "target_label": "__name__",
    "replacement": ":tensorflow:serving:request_latency$1",
}


class Measured:
    """What both sides do, again and again until it is told otherwise."""

    def __init__(self, folder: Path, labels: Mapping[str, str]) -> None:
        models = Models(folder / "models.config")
        models.read()
        registry = prometheus_client.CollectorRegistry()
        self._log = AccessLog(registry, models)
        self._registries = {"exporter": registry}
        self._served = {}
        for side, job in _JOBS.items():
            self._registries[job] = prometheus_client.CollectorRegistry()
            self._served[side] = prometheus_client.Histogram(
                "latency",
                "Microseconds.",
                ["model", "API"],
                buckets=exponential(10, 1.8, 33),
                registry=self._registries[job],
            )
        ports = free_ports(len(self._registries) + 1)
        self.port = ports.pop()
        self.prometheus = Prometheus(f"http://127.0.0.1:{self.port}")
        jobs = []
        for (job, of_job), port in zip(self._registries.items(), ports, strict=True):
            prometheus_client.start_http_server(port, "127.0.0.1", of_job)
            targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {**labels}}]
            renamed = {"metric_relabel_configs": [_RENAMED]}
            jobs.append({"job_name": job, "static_configs": targets, **renamed})
        self.config = folder / "prometheus.yml"
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        self.config.write_text(json.dumps({"global": every, "scrape_configs": jobs}))

    def count(
        self,
        side: str,
        *,
        requests: int = 1,
        failed: int = 0,
        seconds: float = 0.004,
        server_seconds: float = 0.002,
        answers: Sequence[int] = tuple(range(10)),
    ) -> None:
        """So many requests of a side that were answered, by those digits each, or that failed."""
        line = {
            "key": "alice", "method": "POST", "path": "/v1/models/mnist:predict", "model": "mnist",
            "upstream": "192.0.2.1:8501", "grpc_status": "", "seconds": seconds, "side": side,
            "answers": " ".join(f"{digit}:0.98" for digit in answers), "answering": "mnist",
        }  # fmt: skip
        for status, number in ((200, requests), (503, failed)):
            told = {**line, "status": status, "upstream_status": str(status)}
            if status != 200:
                told["answers"] = ""
            for _ in range(number):
                self._log.count(json.dumps(told).encode())
                self._served[side].labels("mnist", "Predict").observe(server_seconds * 1e6)


@contextlib.contextmanager
def measured(folder: Path, labels: Mapping[str, str] | None = None) -> Iterator[Measured]:
    """Run it, in an empty folder, with these labels of all that it scrapes."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    (folder / "models.config").write_text(
        'model_config_list { config { name: "mnist" base_path: "/models/mnist" } }'
    )
    made = Measured(folder, labels or {})
    with started(made.config, made.port):
        yield made


@contextlib.contextmanager
def going_on(made: Measured, **sides: dict[str, object]) -> Iterator[None]:
    """Count for both sides twenty times a second."""

    def count() -> None:
        for side in _JOBS:
            made.count(side, **sides.get(side, {}))  # type: ignore[arg-type]

    with again_and_again(count, 0.05):
        yield
