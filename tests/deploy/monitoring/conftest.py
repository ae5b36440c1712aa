"""The profile `monitoring` on a real engine; Grafana, which Debian does not have, stays away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.operate.access import certificates
from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.conftest import ROOT
from tests.deploy.gateway import secrets_in
from tests.deploy.monitoring.prometheus import Prometheus, quick, until

FILES = ["-f", "deploy/docker-compose.yml", "-f", "deploy/docker-compose.cpu.yml"]


def docker(*arguments: str, **environment: str) -> str:
    """What the command writes; it has to succeed."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Bundle:
    """Everything but Grafana, on own ports, with three replicas."""

    def __init__(self, project: str, folder: Path, images: dict[str, str]) -> None:
        self.project = project
        self.tls_port, grpc_port, self.rest, prometheus, alertmanager = free_ports(5)
        self.alertmanager = f"http://127.0.0.1:{alertmanager}"
        self.prometheus = Prometheus(f"http://127.0.0.1:{prometheus}")
        self.folder = folder
        override = folder / "quick.yml"
        config = quick(folder).parent
        # Alertmanager finds this machine, where tests listen; the exporter watches a small disk.
        override.write_text(
            "services:\n"
            f"  prometheus: {{ volumes: ['{config}:/etc/prometheus:ro'] }}\n"
            "  alertmanager: { extra_hosts: ['this-machine:host-gateway'] }\n"
            "  exporter:\n"
            "    command: [--versions=/small]\n"
            "    tmpfs: ['/small:size=1m,uid=10003']\n"
        )
        self.files = [f"--project-name={project}", *FILES, "-f", str(override)]
        self.environment = {
            **images,
            "MODELS": str(folder / "models"),
            "DEPLOY_SECRETS": str(folder / "secrets"),
            "GATEWAY_PORT": str(self.tls_port),
            "GRPC_PORT": str(grpc_port),
            "REST_PORT": str(self.rest),
            "PROMETHEUS_PORT": str(prometheus),
            "ALERTMANAGER_PORT": str(alertmanager),
            "SERVER_CONFIG": str(folder / "config"),
            "KEY_RATE": "100000",
        }

    def compose(self, *arguments: str) -> str:
        return docker(
            "compose", *self.files, "--profile=monitoring", *arguments, **self.environment
        )

    def watches_all(self) -> bool:
        """Whether Prometheus has scraped three replicas, the others and itself."""
        others = ("exporter", "alertmanager", "prometheus")
        everything = {"serving": ["up"] * 3, **{job: ["up"] for job in others}}
        return self.prometheus.answers() and self.prometheus.health() == everything

    def container(self, name: str) -> str:
        """The engine's name for `serving-1`."""
        return f"{self.project}-{name}"


@pytest.fixture(scope="module")
def bundle(
    stand_in: str,
    nginx: str,
    prometheus: str,
    alertmanager: str,
    published: Version,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bundle]:
    """Up, in a project of the module's own; down in the end."""
    folder = tmp_path_factory.mktemp("monitored")
    shutil.copytree(published.path, folder / "models" / "mnist" / "1")
    (folder / "config").mkdir()
    for path in (ROOT / "deploy" / "server").glob("*.config"):
        shutil.copy(path, folder / "config")
    for path in (folder, folder.parent, folder / "models", folder / "models" / "mnist"):
        path.chmod(0o755)  # the containers are other users
    with secrets_in(folder):
        certificates.make()
    images = {
        "TFS_IMAGE": stand_in,
        "NGINX_IMAGE": nginx,
        "PROMETHEUS_IMAGE": prometheus,
        "ALERTMANAGER_IMAGE": alertmanager,
    }
    bundle = Bundle(
        f"digits-{request.module.__name__.rpartition('.')[2]}".replace("_", "-"), folder, images
    )
    try:
        services = ("serving", "gateway", "exporter", "prometheus", "alertmanager")
        bundle.compose("up", "--detach", "--build", "--scale=serving=3", *services)
        until(bundle.watches_all, "targets")
        yield bundle
    finally:
        bundle.compose("down", "--volumes", "--timeout=5", "--rmi=local")
