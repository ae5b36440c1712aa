"""`python -m deploy` on a real engine, in a checkout of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from deploy.operate.stack import settings
from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.conftest import checkout
from tests.deploy.monitoring.prometheus import Prometheus, quick, until
from tfserving_client import CallError, DigitClient, Policy

DIGIT = np.zeros((28, 28), np.uint8)
PATIENT = Policy(timeout=120, attempts=1000, longest_wait=2, retry_share=1)
DEPLOY = [sys.executable, "-m", "deploy"]


def docker(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


class Bundle:
    """`python -m deploy` of a checkout of its own, with own project, ports, secrets and models."""

    def __init__(self, folder: Path, images: dict[str, str], project: str) -> None:
        self.project = project
        self.root = checkout(folder / "checkout")
        self.stopped, self.while_down = threading.Event(), 0
        self.models, self.secrets = folder / "models" / "mnist", folder / "secrets"
        self.models.mkdir(parents=True)
        self.tls_port, self.grpc, self.rest = free_ports(3)
        self._environment = {
            **os.environ,
            **images,
            "COMPOSE_PROJECT_NAME": project,
            "DEPLOY_SECRETS": str(self.secrets),
            "MODELS": str(self.models.parent),
            "GATEWAY_PORT": str(self.tls_port),
            "GRPC_PORT": str(self.grpc),
            "REST_PORT": str(self.rest),
            "PYTHONPATH": str(self.root),
        }

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        environment = {**self._environment, **changed}
        return _run([*DEPLOY, *arguments], self.models, environment)  # wherever one is

    def done(self, *arguments: str, **changed: str) -> str:
        """What a command answers that has to succeed."""
        done = self(*arguments, **changed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, status: int = 1) -> str:
        """The sentence with which a command ends that has to fail."""
        done = self(*arguments)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    @contextlib.contextmanager
    def typing(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command, while it runs; ended afterwards if it did not end itself."""
        with subprocess.Popen(
            [*DEPLOY, *arguments],
            cwd=self.models,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def interrupted(self, line: str, *arguments: str, sent: int = signal.SIGINT) -> int:
        """The exit status after a Ctrl-C as soon as the command's progress says `line`."""
        with self.typing(*arguments) as process:
            stderr: IO[str] = process.stderr  # type: ignore[assignment]
            seen = next((said for said in stderr if line in said), None)
            assert seen, f"{line!r} was never said"
            process.send_signal(sent)
            process.communicate()
        return process.returncode

    def plain(self, *command: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """A command in the checkout's root, typed in a shell that knows nothing of the bundle."""
        known = settings.names()
        blank = {name: value for name, value in self._environment.items() if name not in known}
        return _run(command, self.root, {**blank, **changed})

    def typed(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Lines of a README, in the root; models and secrets where they are by default."""
        url = f"grpc://localhost:{self.grpc}"
        by_default = {"MODELS": "", "DEPLOY_SECRETS": "", "DIGITS_URL": url}
        return _run(["bash", "-ec", commands], self.root, {**self._environment, **by_default})

    @contextlib.contextmanager
    def watched(self, image: str, folder: Path, **changed: str) -> Iterator[Prometheus]:
        """Exporter and Prometheus beside what runs, looking each second; then none, as before."""
        (port,) = free_ports(1)
        (folder / "quick.yml").write_text(
            f"services: {{prometheus: {{volumes: ['{quick(folder).parent}:/etc/prometheus:ro']}}}}"
        )
        files = ("deploy/docker-compose.yml", "deploy/docker-compose.cpu.yml", folder / "quick.yml")
        compose = ["docker", "compose", *(f"--file={file}" for file in files)]
        compose.append("--profile=monitoring")
        services = ("exporter", "prometheus")
        environment = {
            **self._environment,
            "SERVER_CONFIG": "./machine/config",
            "PROMETHEUS_PORT": str(port),
            "PROMETHEUS_IMAGE": image,
            **changed,
        }
        up = [*compose, "up", "--detach", "--build", "--no-deps", *services]
        done = _run(up, self.root, environment)
        try:
            assert done.returncode == 0, done.stderr
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            until(prometheus.answers, "Prometheus")
            yield prometheus
        finally:
            _run([*compose, "rm", "--stop", "--force", *services], self.root, environment)

    def left(self) -> str:
        """The project's containers, networks and named volumes."""
        ours = f"--filter=label=com.docker.compose.project={self.project}"
        kinds = (["ps", "--all"], ["network", "ls"], ["volume", "ls"])
        return "".join(docker(*kind, "--quiet", ours) for kind in kinds)

    def clear(self) -> None:
        """Remove all that is left, however a test ended; Prometheus' memory, too."""
        named = f"--project-name={self.project}"  # the settings may not say it yet
        self.plain("docker", "compose", named, "--profile=*", "down", "--volumes", "--timeout=5")

    def publish(self, version: Version, number: int = 1) -> None:
        """Put a version into the models' folder, all at once."""
        shutil.copytree(version.path, self.models / f".staging-{number}")
        (self.models / f".staging-{number}").rename(self.models / str(number))

    def ids(self) -> dict[str, str]:
        """Name → the engine's id of each container."""
        return {one["name"]: one["id"] for one in self.status()[1]["containers"]}

    @contextlib.contextmanager
    def load(self, model: str = "mnist") -> Iterator[Callable[[], int]]:
        """Classify again and again, over gRPC and REST; gives how often it was done.

        No call may fail, whatever is done to the bundle meanwhile, but while it is `stopped`.
        """
        done, failed, stop = Counter[str](), list[Exception](), threading.Event()

        def work(url: str) -> None:
            try:
                with DigitClient(url, model=model, policy=PATIENT) as digits:
                    while not stop.is_set():
                        stopped = self.stopped.is_set()
                        try:
                            digits.classify(DIGIT)
                            done[url] += 1
                        except CallError:
                            if not (stopped or self.stopped.is_set()):
                                raise
                            self.while_down += 1
                        stop.wait(0.01)  # leaves the machine to the others
            except Exception as error:
                failed.append(error)

        urls = f"grpc://localhost:{self.grpc}", f"http://localhost:{self.rest}"
        threads = [threading.Thread(target=work, args=[url]) for url in urls]
        for thread in threads:
            thread.start()
        try:
            yield lambda: min(done[url] for url in urls)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failed == []

    def status(self) -> tuple[int, dict[str, Any]]:
        done = self("status", "--json")
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)
