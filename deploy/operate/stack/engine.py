"""What this machine offers to run the bundle: a container engine, Compose, perhaps a GPU."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import requests

from deploy import FOLDER
from deploy.operate import interrupts
from deploy.operate.errors import Refused

_TIMEOUT = 30  # seconds for one request to the engine


@contextlib.contextmanager
def connect() -> Iterator[docker.DockerClient]:
    """The engine that the `docker` command uses; it has answered.

    Raises:
        Refused: there is no engine, this user may not use it, or it failed inside the `with`.
    """
    try:
        with contextlib.closing(_connect()) as engine:
            yield engine
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Refused(f"the container engine failed: {error}") from error


@contextlib.contextmanager
def connect_if_any(say: Callable[[str], None]) -> Iterator[docker.DockerClient | None]:
    """As `connect`; None, and a line that says why, if no engine answers.

    Raises:
        Refused: it failed later, inside the `with`.
    """
    with contextlib.ExitStack() as opened:
        client = None
        try:
            client = opened.enter_context(connect())
        except Refused as error:
            say(f"cannot find out what runs: {error}")
        yield client


def _connect() -> docker.DockerClient:
    _docker("compose", "version", missing="Docker has no Compose plugin; install it")
    # The command and the SDK have to use the same engine, and an error names it.
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
                "(`sudo usermod -aG docker $USER`, then log in again)"
            ) from error
        raise Refused(
            f"no container engine answers at {host}; start it (`sudo systemctl start docker`) or "
            "install Docker"
        ) from error


def gpu(engine: docker.DockerClient) -> str | None:
    """How the engine gives a GPU to a container: `gpu` (NVIDIA's runtime), `cdi`, or None.

    Without that runtime, Docker 28.2 and later list the CDI devices; 25 and later only list the
    folders of their specifications, on the engine's machine.
    """
    info = engine.info()
    if "nvidia" in info["Runtimes"]:
        return "gpu"
    devices = info.get("DiscoveredDevices") or ()
    specifications = (
        path for folder in info.get("CDISpecDirs") or () for path in Path(folder).glob("*nvidia*")
    )
    by_cdi = any(one["ID"].startswith("nvidia.com/gpu=") for one in devices)
    return "cdi" if by_cdi or any(specifications) else None


class Compose:
    """`docker compose` with the settings of this machine, from any working directory.

    Args:
        environment: all variables, instead of this process's; they override the machine's settings.
        profiles: optional services to include beside those of the settings; `*` is all.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, profiles: Sequence[str] = ()
    ) -> None:
        self._options = [
            f"--file={FOLDER / 'machine' / 'compose.yaml'}",
            *(f"--profile={profile}" for profile in profiles),
        ]
        self.environment = os.environ if environment is None else environment

    def command(self, *arguments: str) -> list[str]:
        """The command line to run, with `environment`."""
        return ["docker", "compose", *self._options, *arguments]

    def run(self, *arguments: str) -> str:
        """Run to the end and return its standard output.

        Raises:
            Refused: it failed; the text has the last line of its output.
        """
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C does not interrupt it halfway
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise Refused(f"`docker compose {arguments[0]}` failed: {said[-1]}")
        return done.stdout

    @contextlib.contextmanager
    def running(self, *arguments: str, grace: float = 0) -> Iterator[Callable[[], bool]]:
        """Run in the background; gives a function that tells whether it is done, or raises Refused.

        Afterwards it has `grace` seconds to finish. The engine continues with a request even if
        Compose is killed: a container could appear after all others were removed.
        """
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                self.command("--progress=plain", *arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which ends Compose cleanly
            )

            def ended() -> bool:
                if process.poll():
                    log.seek(0)
                    raise Refused(_explained(log.read().decode(errors="replace")))
                return process.returncode is not None

            try:
                yield ended
            finally:
                with interrupts.ignored():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(grace)
                    process.terminate()
                    process.wait()

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The compose files as Compose reads them, with every variable replaced."""
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


def _explained(said: str) -> str:
    if taken := re.search(r":(\d+)\b.*(already allocated|already in use)", said):
        return (
            f"port {taken[1]} of this machine is taken by another program; stop it, or choose "
            "another with GATEWAY_PORT, GRPC_PORT, REST_PORT, PROMETHEUS_PORT or GRAFANA_PORT"
        )
    if "could not select device driver" in said:
        return "the engine has no GPU for containers; use --cpu to serve on the CPU"
    return said.strip().splitlines()[-1]
