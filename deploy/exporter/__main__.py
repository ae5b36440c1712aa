"""`python -m deploy.exporter`: metrics about gateway, servers and machine, for Prometheus.

Its defaults are the names in docker-compose.yml.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import prometheus_client

from deploy.exporter.access_log import AccessLog, bind
from deploy.exporter.certificate import Certificate
from deploy.exporter.machine import Machine
from deploy.exporter.models import Models
from deploy.exporter.replicas import Replicas


def main() -> None:
    """Serve /metrics and count the gateway's log lines until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.exporter", description=__doc__)
    for name, default, meaning in (
        ("models", "/config/models.config", "the server's list of models"),
        ("serving", "serving:8501", "REST addresses of the replicas, separated by commas"),
        ("versions", "/models", "the models folder, as it is mounted here"),
        ("groups", "/cgroup", "the machine's /sys/fs/cgroup, as it is mounted here"),
        ("gateway", "gateway:8443", "TLS address whose certificate is monitored"),
    ):
        parser.add_argument(f"--{name}", default=default, help=f"{meaning} [%(default)s]")
    parser.add_argument(
        "--port", type=int, default=9100, help="address for Prometheus [%(default)s]"
    )
    parser.add_argument(
        "--syslog",
        type=int,
        default=1514,
        help="UDP address for the log lines of nginx [%(default)s]",
    )
    given = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(message)s")

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    models = Models(Path(given.models))
    models.read()
    registry = prometheus_client.CollectorRegistry()
    log = AccessLog(registry, models)
    registry.register(Replicas(given.serving, models))
    registry.register(Certificate(given.gateway))
    # The root holds the engine's containers and logs, and the data of Prometheus.
    disks = {"engine": Path("/"), "models": Path(given.versions)}
    registry.register(Machine(Path(given.groups), disks))
    arriving = bind(given.syslog)
    prometheus_client.start_http_server(given.port, registry=registry)
    log.listen(arriving)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
