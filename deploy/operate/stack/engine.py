"""What this machine has to run the bundle with: a container engine, Compose, perhaps a GPU."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker
import requests

from deploy import FOLDER
from deploy.operate.access import secret_files
from deploy.operate.errors import Refused

_TIMEOUT = 30  # seconds for one question to the engine


@contextlib.contextmanager
def connect() -> Iterator[docker.DockerClient]:
    """The engine that the `docker` command talks to, after it answered.

    Raises:
        Refused: there is no engine, it is not ours to use, or it failed later, inside the `with`.
    """
    try:
        with contextlib.closing(_connect()) as engine:
            yield engine
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Refused(f"the container engine failed: {error}") from error


def _connect() -> docker.DockerClient:
    _docker("compose", "version", missing="Docker has no Compose plugin; install it")
    # The command heeds contexts, the SDK only DOCKER_HOST: they should mean the same engine.
    host = _docker("context", "inspect", "--format={{.Endpoints.docker.Host}}").strip()
    try:
        return docker.from_env(
            environment={**os.environ, "DOCKER_HOST": host},
            timeout=_TIMEOUT,
            use_ssh_client=True,
        )
    except docker.errors.DockerException as error:
        if "Permission denied" in str(error):
            raise Refused(
                f"you may not use the container engine at {host}; join its group "
                "(`sudo usermod -aG docker $USER`, then log in anew)"
            ) from error
        raise Refused(
            f"no container engine answers at {host}; start it (`sudo systemctl start docker`) or "
            "install Docker"
        ) from error


def has_gpu(engine: docker.DockerClient) -> bool:
    """Whether the engine can hand a GPU to a container."""
    return "nvidia" in engine.info()["Runtimes"]


class Compose:
    """`docker compose` on the bundle's files, from wherever it is called.

    Args:
        gpu: serve on the GPU, else on the CPU.
        profiles: which optional services take part; `*` is all of them.
    """

    def __init__(self, *, gpu: bool = True, profiles: Sequence[str] = ()) -> None:
        files = ["docker-compose.yml"] + ([] if gpu else ["docker-compose.cpu.yml"])
        self._options = [
            *(f"--file={FOLDER / file}" for file in files),
            *(f"--profile={profile}" for profile in profiles),
        ]
        self.environment: Mapping[str, str] = {
            **os.environ,
            "DEPLOY_SECRETS": str(secret_files.folder()),
        }

    def command(self, *arguments: str) -> list[str]:
        """The command line to run, with `environment`."""
        return ["docker", "compose", *self._options, *arguments]

    def run(self, *arguments: str) -> str:
        """Run to the end; what it wrote on standard output.

        Raises:
            Refused: it failed; holds the last line of what it said.
        """
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a Ctrl-C does not leave half of it undone
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise Refused(f"`docker compose {arguments[0]}` failed: {said[-1]}")
        return done.stdout

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The files as Compose understands them, with every variable put in."""
        config: dict[str, Any] = json.loads(self.run("config", "--format=json"))
        return config


def _docker(*arguments: str, missing: str | None = None) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refused(
            "there is no `docker` command; install Docker and its Compose plugin"
        ) from None
    if done.returncode:
        raise Refused(missing or f"`docker {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
