"""`python -m deploy.exporter`: looks on, beside the gateway, for Prometheus.

Its defaults are the names of the house, as docker-compose.yml has them.
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
    """Serve /metrics and count the gateway's lines until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.exporter", description=__doc__)
    for name, default, meaning in (
        ("models", "/config/models.config", "the server's list of models"),
        ("serving", "serving:8501", "REST ports of the replicas, with commas between"),
        ("versions", "/models", "the server's folder of versions, as it is mounted here"),
        ("groups", "/cgroup", "the machine's /sys/fs/cgroup, as it is mounted here"),
        ("gateway", "gateway:8443", "TLS port whose certificate is watched"),
    ):
        parser.add_argument(f"--{name}", default=default, help=f"{meaning} [%(default)s]")
    parser.add_argument("--port", type=int, default=9100, help="for Prometheus [%(default)s]")
    parser.add_argument("--syslog", type=int, default=1514, help="UDP, for nginx [%(default)s]")
    given = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(message)s")

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    models = Models(Path(given.models))
    models.read()
    registry = prometheus_client.CollectorRegistry()
    log = AccessLog(registry, models)
    registry.register(Replicas(given.serving, models))
    registry.register(Certificate(given.gateway))
    # The root is where the engine keeps containers, logs and Prometheus' memory.
    disks = {"engine": Path("/"), "models": Path(given.versions)}
    registry.register(Machine(Path(given.groups), disks))
    arriving = bind(given.syslog)
    prometheus_client.start_http_server(given.port, registry=registry)
    log.listen(arriving)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
