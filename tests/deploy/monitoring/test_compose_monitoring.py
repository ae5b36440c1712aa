"""The profile `monitoring` on a real engine; Grafana, which Debian does not have, stays a file."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.monitoring.conftest import FILES, Bundle, docker
from tests.deploy.monitoring.prometheus import until

DASHBOARD = ROOT / "deploy" / "monitoring" / "grafana" / "dashboards" / "serving.json"
MONITORING = ("exporter", "prometheus", "alertmanager", "grafana", "gpu-exporter")


def _config(*options: str) -> dict[str, Any]:
    text = docker("compose", *FILES, *options, "config", "--format=json")
    services: dict[str, Any] = json.loads(text)["services"]
    return services


@pytest.mark.usefixtures("engine")
def test_without_the_profile_there_is_no_monitoring() -> None:
    assert not {*_config()} & {*MONITORING}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", MONITORING)
def test_monitoring_is_hardened(name: str) -> None:
    service = _config("--profile=*")[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["dns_search"] == ["."]
    assert service["healthcheck"]["test"]
    assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}
    for volume in service.get("volumes", ()):
        if volume["type"] == "bind":
            assert volume["read_only"] is True
            # The models' folder comes with the first model.
            assert volume["target"] == "/models" or Path(volume["source"]).exists()


def test_grafana_is_given_what_it_shows() -> None:
    """The dashboards' variables and panels ask the one source; the home page is one of them."""
    grafana = ROOT / "deploy" / "monitoring" / "grafana"
    source = (grafana / "provisioning" / "datasources" / "prometheus.yml").read_text()
    assert "url: http://prometheus:9090" in source
    assert "isDefault: true" in source
    (home,) = (
        line.rpartition("/")[2]
        for line in (grafana / "grafana.ini").read_text().splitlines()
        if line.startswith("default_home_dashboard_path")
    )
    dashboards = {
        path.name: json.loads(path.read_text()) for path in grafana.glob("dashboards/*.json")
    }
    assert home in dashboards
    for dashboard in dashboards.values():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(numbers) == len({*numbers})


def test_prometheus_sees_every_replica_and_the_gateways_certificate(bundle: Bundle) -> None:
    def values(query: str) -> list[float]:
        return [value for _, value in bundle.prometheus.query(query)]

    until(lambda: values("digits_model_newest_available_version") == [1] * 3, "versions")
    until(lambda: values("serving:replicas") == [3], "replicas")
    # What the exporter calls a replica is what Prometheus calls it.
    until(lambda: values("count(up * on (replica) digits_replica_up)") == [3], "the same names")
    (days,) = until(
        lambda: values("(digits_certificate_expiry_timestamp_seconds - time()) / 86400"),
        "a certificate",
    )
    assert days > 1


def test_what_containers_use_is_seen_by_their_names(bundle: Bundle) -> None:
    names = {"gateway-1", "exporter-1", "prometheus-1", "alertmanager-1"}
    names |= {f"serving-{number}" for number in (1, 2, 3)}
    for metric in ("memory_bytes", "memory_limit_bytes", "cpu_seconds_total"):

        def seen(metric: str = metric) -> bool:
            found = bundle.prometheus.query(f"digits_container_{metric} > 0")
            return {labels["container"] for labels, _ in found} == names

        until(seen, metric)
    ((_, limit),) = bundle.prometheus.query(
        'digits_container_memory_limit_bytes{container="serving-1"}'
    )
    assert limit == 8 << 30
    disks = bundle.prometheus.query("digits_disk_free_bytes / digits_disk_size_bytes")
    assert {labels["disk"] for labels, _ in disks} == {"engine", "models"}


def test_whom_alerts_are_told_is_on_the_dashboard(bundle: Bundle) -> None:
    """Nobody, as nothing was configured."""
    (panel,) = (
        panel
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        if panel["title"] == "Alert receivers"
    )
    told = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert told["0"]["text"] == "none configured"
    (target,) = panel["targets"]
    assert bundle.prometheus.query(target["expr"]) == [({}, 0)]


def test_the_gateways_requests_reach_the_exporter(bundle: Bundle) -> None:
    def counted() -> bool:
        url = f"http://127.0.0.1:{bundle.rest}/v1/models/mnist"
        with contextlib.suppress(OSError):  # it may still be starting
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()
        return bool(
            bundle.prometheus.query(
                'digits_gateway_requests_total{key="local",model="mnist",outcome="answered"} > 0'
            )
        )

    until(counted, "a request that is counted")


@pytest.mark.parametrize(
    ("service", "user"), [("exporter", "10003"), ("prometheus", "65534"), ("alertmanager", "65534")]
)
def test_containers_run_as_nobody_on_a_root_that_is_read_only(
    service: str, user: str, bundle: Bundle
) -> None:
    assert bundle.compose("exec", service, "id", "-u") == user
    with pytest.raises(AssertionError, match="Read-only file system"):
        bundle.compose("exec", service, "touch", "/x")
    health = bundle.container(f"{service}-1"), "--format={{.State.Health.Status}}"
    until(lambda: docker("inspect", *health) == "healthy", f"{service} to be healthy")


def test_prometheus_reads_edited_rules_and_remembers_through_a_restart(bundle: Bundle) -> None:
    def number(query: str) -> float:
        # A scrape that a busy machine misses leaves a gap.
        ((_, value),) = until(lambda: bundle.prometheus.query(query), query)
        return float(value)

    reloads = "prometheus_config_last_reload_success_timestamp_seconds"
    before = number(f"time() - {reloads}")
    bundle.compose("kill", "--signal=HUP", "prometheus")
    until(lambda: number(f"time() - {reloads}") < before, "a reload")

    seen = "count_over_time(serving:replicas[1h])"
    before = number(seen)
    bundle.compose("restart", "prometheus")
    until(bundle.watches_all, "Prometheus")
    assert number(seen) >= before


def test_killing_one_of_three_replicas_is_an_alert_until_it_is_back(bundle: Bundle) -> None:
    becomes = bundle.prometheus.becomes
    becomes("ReplicaDown", "inactive")
    docker("kill", bundle.container("serving-2"))
    becomes("ReplicaDown", "firing")
    becomes("AllReplicasDown", "inactive")
    docker("start", bundle.container("serving-2"))
    becomes("ReplicaDown", "inactive")


def test_a_full_disk_is_an_alert_until_there_is_space(bundle: Bundle, tmp_path: Path) -> None:
    small = tmp_path / "small.yml"
    small.write_text(
        "services: { prometheus: { volumes: ['small:/prometheus/wal'] } }\n"
        "volumes: { small: { driver_opts: "
        "{ type: tmpfs, device: tmpfs, o: 'size=32m,uid=65534' } } }"
    )
    bundle.files += ["-f", str(small)]  # `down` is to know of it, too
    bundle.compose("up", "--detach", "--no-deps", "prometheus")
    until(bundle.watches_all, "targets")
    bundle.prometheus.becomes("MetricsNotStored", "inactive")
    with pytest.raises(AssertionError, match="No space left"):
        bundle.compose("exec", "prometheus", "sh", "-c", "cat /dev/zero > /prometheus/wal/full")
    bundle.prometheus.becomes("MetricsNotStored", "firing")
    bundle.compose("exec", "prometheus", "rm", "/prometheus/wal/full")
    bundle.prometheus.becomes("MetricsNotStored", "inactive")


@pytest.mark.parametrize(
    ("service", "alert"), [("gateway", "GatewayDown"), ("exporter", "ExporterDown")]
)
def test_killing_the_gateway_then_the_exporter_is_an_alert(
    service: str, alert: str, bundle: Bundle
) -> None:
    """The last test: it leaves them dead."""
    bundle.prometheus.becomes(alert, "inactive")
    bundle.compose("kill", service)
    bundle.prometheus.becomes(alert, "firing")
