"""What the dashboards and rules ask, asked of a Prometheus that watches the real thing at work:
the local server, batching as on a GPU, behind a gateway with callers of every kind.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from deploy.runner import Server, free_ports, serve
from tests.conftest import Version
from tests.deploy.gateway import Gateway, running
from tests.deploy.monitoring.prometheus import (
    ROOT,
    Prometheus,
    again_and_again,
    expressions,
    process,
    quick,
    started,
    until,
)
from tfserving_client import CallError, DigitClient, Policy

CONFIG = ROOT / "deploy" / "server"
# What only containers, a GPU and an nginx with JavaScript have: see test_compose_monitoring.
ELSEWHERE = ("digits_container_", "DCGM_", "answers:", "digits_model_differs")


@dataclass(frozen=True)
class Watched:
    """All parts of it."""

    server: Server
    prometheus: Prometheus


@contextlib.contextmanager
def load(gateway: Gateway, key: str) -> Iterator[None]:
    """Callers whom the server answers, whom it rejects, and whom the gateway refuses."""
    address = f"127.0.0.1:{gateway.tls_port}"
    once = Policy(attempts=1)
    image = np.zeros((28, 28), np.uint8)

    def call() -> None:
        for client in clients:
            with contextlib.suppress(CallError):
                client.classify(image)

    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                DigitClient(
                    f"{scheme}://{address}",
                    model=model,
                    policy=once,
                    api_key=given,
                    tls=gateway.tls,
                )
            )
            for scheme in ("https", "grpcs")
            for model, given in (("mnist", key), ("nosuch", key), ("mnist", "dk_wrong"))
        ]
        with again_and_again(call, 0.1):
            yield


@pytest.fixture(scope="module")
def watched(published: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("watched")
    own, exporter, syslog = free_ports(3)
    flags = [
        f"--monitoring_config_file={CONFIG / 'monitoring.config'}",
        "--enable_batching=true",
        f"--batching_parameters_file={CONFIG / 'batching.config'}",
    ]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(published.path.parent, flags=flags))
        grpc_port, rest_port = (
            int(url.rpartition(":")[2]) for url in (server.grpc_url, server.rest_url)
        )
        (folder / "gateway").mkdir()
        # Where start.sh would find the exporter.
        included = f"include {folder / 'gateway'}/run/now/syslog.conf;"
        sent = f"access_log syslog:server=127.0.0.1:{syslog},nohostname,tag=gateway json;"
        gateway = stack.enter_context(
            running(
                folder / "gateway", ["127.0.0.1"], (grpc_port, rest_port), changes={included: sent}
            )
        )
        stack.enter_context(
            process(
                folder,
                *(sys.executable, "-m", "deploy.exporter", f"--models={CONFIG / 'models.config'}"),
                *(f"--serving=127.0.0.1:{rest_port}", f"--gateway=127.0.0.1:{gateway.tls_port}"),
                *(f"--port={exporter}", f"--syslog={syslog}"),
                f"--versions={published.path.parent}",
            )
        )
        config = quick(folder)
        text = config.read_text()
        static = f'static_configs: [{{ targets: ["127.0.0.1:{rest_port}"] }}]'
        text = re.sub(r"dns_sd_configs:\n +- .*", static, text)
        text = text.replace("exporter:9100", f"127.0.0.1:{exporter}")
        text = re.sub(r"  - job_name: (alertmanager|candidate|gpu)\n(    .*\n)+", "", text)
        text = re.sub(r"alerting: .*", "", text)
        config.write_text(text.replace("localhost:9090", f"127.0.0.1:{own}"))
        prometheus = stack.enter_context(started(config, own))
        stack.enter_context(load(gateway, gateway.new_key("tester")))
        yield Watched(server, prometheus)


def test_every_target_is_up(watched: Watched) -> None:
    everything = {"serving": ["up"], "exporter": ["up"], "prometheus": ["up"]}
    until(lambda: watched.prometheus.health() == everything, "targets")


def test_every_query_of_every_dashboard_returns_data(watched: Watched) -> None:
    queries = [query for query in expressions() if not any(name in query for name in ELSEWHERE)]
    assert len(queries) > 20
    watched.prometheus.has_data(queries)


def test_every_recording_rule_returns_data(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    names = {name for name in recorded if not name.startswith(ELSEWHERE)}
    assert len(names) > 10
    watched.prometheus.has_data(sorted(names))


def test_every_alert_can_be_evaluated(watched: Watched) -> None:
    def health() -> set[str]:
        return {rule["health"] for rule in watched.prometheus.rules()}

    until(lambda: health() == {"ok"}, "rules")


def test_nginx_lines_are_counted_as_what_happened(watched: Watched) -> None:
    expected = {
        ("tester", "mnist", "predict", "200", "answered"),
        ("tester", "", "predict", "grpc 0", "answered"),
        ("tester", "other", "predict", "404", "rejected"),
        ("tester", "", "predict", "grpc 5", "rejected"),
        ("", "mnist", "predict", "401", "refused"),
        ("", "", "predict", "grpc 16", "refused"),
    }
    labels = ("key", "model", "method", "status", "outcome")

    def counted() -> set[tuple[str, ...]]:
        samples = watched.prometheus.query("digits_gateway_requests_total")
        return {tuple(found.get(label, "") for label in labels) for found, _ in samples}

    def all_counted() -> set[tuple[str, ...]]:
        return seen if expected <= (seen := counted()) else set()

    assert {key for key, *_ in until(all_counted, "all kinds of requests")} == {"tester", ""}
    count = "digits_gateway_bad_lines_total"
    ((_, bad_lines),) = until(lambda: watched.prometheus.query(count), "the count")
    assert bad_lines == 0


def test_a_server_that_ends_is_an_alert_and_its_requests_are_failed(watched: Watched) -> None:
    """The last test: nothing answers after it."""
    prometheus = watched.prometheus
    prometheus.becomes("AllReplicasDown", "inactive")
    watched.server.process.kill()
    for alert in ("AllReplicasDown", "FailuresFast"):
        prometheus.becomes(alert, "firing")
    failed = 'sum by (status) (digits_gateway_requests_total{outcome="failed"}) > 0'

    def statuses() -> set[str]:
        return {labels["status"] for labels, _ in prometheus.query(failed)}

    until(lambda: statuses() >= {"503", "grpc 14"}, "failed requests")
    until(lambda: [v for _, v in prometheus.query("digits_replica_up")] == [0], "the exporter")
