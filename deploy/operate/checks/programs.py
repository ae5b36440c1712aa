"""Check the files of nginx and Prometheus with these programs themselves, in their containers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker

from deploy import FOLDER

_PROMETHEUS = "/etc/prometheus/prometheus.yml"


class Unchecked(Exception):
    """The program is not installed here, or does not run; the text says which."""


def gateway(engine: docker.DockerClient, service: Mapping[str, Any]) -> Iterator[str]:
    """What nginx finds wrong in its configuration, keys and certificates.

    Args:
        engine: the container engine.
        service: the gateway of the compose file, with every variable replaced.

    Raises:
        Unchecked: its image is not on the engine, or is not nginx.
    """
    status, said = _run(engine, service, [*service["entrypoint"], "check"])
    if status:
        told = [line.partition("[emerg] ")[2] for line in said if "[emerg]" in line]
        if not told:
            raise Unchecked(f"{service['image']} says: {' '.join(said)}")
        for line in told:
            yield f"deploy/gateway: {line.replace(' /gateway/', ' deploy/gateway/')}"


def prometheus(engine: docker.DockerClient, service: Mapping[str, Any]) -> Iterator[str]:
    """What promtool finds wrong in configuration and rules.

    Raises:
        Unchecked: neither its image nor the program is installed here.
    """
    try:
        status, said = _run(engine, service, ["promtool", "check", "config", _PROMETHEUS])
    except Unchecked:
        if not shutil.which("promtool"):
            raise
        command = ["promtool", "check", "config", str(FOLDER / "monitoring" / "prometheus.yml")]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        status, said = done.returncode, done.stdout.splitlines()
    if status:
        told = [line for line in said if not line.lstrip().startswith(("Checking ", "SUCCESS"))]
        for failed in filter(None, map(str.strip, "\n".join(told).split("FAILED:"))):
            yield f"deploy/monitoring: {' '.join(failed.replace('/etc/prometheus/', '').split())}"


def _run(
    engine: docker.DockerClient, service: Mapping[str, Any], command: Sequence[str]
) -> tuple[int, list[str]]:
    """Run a command in a temporary container with the mounts of the service."""
    image = service["image"]
    try:
        engine.images.get(image)
    except docker.errors.ImageNotFound:
        raise Unchecked(f"the image {image} is not here") from None
    tmpfs = (entry.partition(":") for entry in service.get("tmpfs", ()))
    container = engine.containers.create(
        image,
        entrypoint=list(command),
        user=service["user"],
        environment=service.get("environment", {}),
        volumes=[
            f"{one['source']}:{one['target']}:ro"
            for one in service["volumes"]
            if one["type"] == "bind"
        ],
        tmpfs={path: options for path, _, options in tmpfs},
        network_mode="none",
    )
    try:
        container.start()
        status = container.wait()["StatusCode"]
        log = container.logs().decode(errors="replace")
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
    return status, [line for line in log.splitlines() if line.strip()]
