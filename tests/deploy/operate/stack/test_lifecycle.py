"""`python -m deploy up`, `status` and `down` on a real engine, with stand-ins for both images."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.conftest import checkout
from tests.deploy.operate.fake_registry import fake_registry
from tfserving_client import AccessDenied, Classification, DigitClient, Tls

PROJECT = "digits-stack-test"
_OURS = f"--filter=label=com.docker.compose.project={PROJECT}"
_DEPLOY = [sys.executable, "-m", "deploy"]


def _docker(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _left() -> str:
    """The project's containers, networks and named volumes."""
    kinds = (["ps", "--all"], ["network", "ls"], ["volume", "ls"])
    return "".join(_docker(*kind, "--quiet", _OURS) for kind in kinds)


class Bundle:
    """`python -m deploy` of a checkout of its own, with own project, ports, secrets and models."""

    def __init__(self, folder: Path, images: dict[str, str]) -> None:
        self.root = checkout(folder / "checkout")
        self.models, self.secrets = folder / "models" / "mnist", folder / "secrets"
        self.models.mkdir(parents=True)
        self.door, self.grpc, self.rest = free_ports(3)
        self._environment = {
            **os.environ,
            **images,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "DEPLOY_SECRETS": str(self.secrets),
            "MODELS": str(self.models.parent),
            "GATEWAY_PORT": str(self.door),
            "GRPC_PORT": str(self.grpc),
            "REST_PORT": str(self.rest),
            "PYTHONPATH": str(self.root),
        }

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_DEPLOY, *arguments],
            cwd=self.models,  # wherever one is
            env={**self._environment, **changed},
            capture_output=True,
            text=True,
            check=False,
        )

    def interrupted(self, line: str, *arguments: str) -> int:
        """The exit status after a Ctrl-C as soon as the command's progress says `line`."""
        command = [*_DEPLOY, *arguments]
        with subprocess.Popen(
            command, cwd=self.root, env=self._environment, stderr=subprocess.PIPE, text=True
        ) as process:
            stderr: IO[str] = process.stderr  # type: ignore[assignment]
            seen = next((said for said in stderr if line in said), None)
            assert seen, f"{line!r} was never said"
            process.send_signal(signal.SIGINT)
            process.communicate()
        return process.returncode

    def status(self) -> tuple[int, dict[str, Any]]:
        done = self("status", "--json")
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def bundle(stand_in: str, nginx: str, tmp_path: Path) -> Iterator[Bundle]:
    """On images that do not differ from the official ones in anything that matters here."""
    made = Bundle(tmp_path, {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx})
    yield made
    made("down")


def _publish(version: Version, bundle: Bundle) -> None:
    shutil.copytree(version.path, bundle.models / "1")


def _once_the_key_is_known(digits: DigitClient, images: NDArray[np.uint8]) -> Classification:
    deadline = time.monotonic() + 60
    while True:
        try:
            return digits.classify(images)
        except AccessDenied:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_from_the_first_start_to_the_last(bundle: Bundle, published: Version, nginx: str) -> None:
    assert bundle.status()[0] == 3
    _publish(published, bundle)
    # As the official images of Prometheus and Grafana do, it keeps its data in a volume.
    image = f"{nginx}-with-volume"
    _docker("build", f"--tag={image}", "-", text=f"FROM {nginx}\nVOLUME /var/data\n")

    up = bundle("up", "--scale", "2", NGINX_IMAGE=image)
    assert up.returncode == 0, up.stderr
    for name in ("serving-1", "serving-2", "gateway-1"):
        assert re.search(rf"^start   {name} +healthy", up.stderr, re.MULTILINE)
        assert re.search(rf"^{name} +healthy", up.stdout, re.MULTILINE)
    assert up.stdout.count("1 AVAILABLE") == 2
    assert f"https://localhost:{bundle.door}" in up.stdout
    assert "certificate for localhost" in up.stderr
    (mount,) = json.loads(_docker("inspect", "--format={{json .Mounts}}", f"{PROJECT}-gateway-1"))[
        -1:
    ]

    key = bundle("keys", "create", "alice").stdout.strip()
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    tls = Tls(ca=bundle.secrets / "gateway" / "ca.pem")
    with DigitClient(f"grpcs://localhost:{bundle.door}", api_key=key, tls=tls) as digits:
        answer = _once_the_key_is_known(digits, images)
    np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)

    exit_status, status = bundle.status()
    assert (exit_status, status["well"], status["keys"]) == (0, True, 1)
    assert [one["name"] for one in status["containers"]] == ["gateway-1", "serving-1", "serving-2"]
    replicas = [one["versions"] for one in status["containers"][1:]]
    assert replicas == [[{"version": 1, "state": "AVAILABLE", "error": ""}]] * 2
    assert "localhost" in status["certificate"]["hosts"]
    assert key not in json.dumps(status)

    _docker("stop", f"{PROJECT}-gateway-1")
    exit_status, status = bundle.status()
    assert (exit_status, status["well"]) == (1, False)
    assert [one["state"] for one in status["containers"]] == ["exited", "running", "running"]

    again = bundle("up", NGINX_IMAGE=image)
    assert again.returncode == 0, again.stderr
    assert bundle.status()[1]["well"]
    assert [one["id"] for one in bundle.status()[1]["containers"]] == [
        one["id"] for one in status["containers"]
    ]

    down = bundle("down")
    assert down.returncode == 0, down.stderr
    assert f"removed serving-2\nremoved network {PROJECT}_default\n" in down.stdout
    assert _left() == ""
    assert mount.get("Name") not in _docker("volume", "ls", "--quiet").split()
    assert bundle("down").stdout == "nothing runs\n"
    assert bundle.status()[0] == 3
    _docker("rmi", image)


def test_ctrl_c_leaves_what_ran_before_and_nothing_else(bundle: Bundle, published: Version) -> None:
    _publish(published, bundle)
    assert bundle.interrupted("start   serving-1", "up") == 130
    assert _left() == ""
    up = bundle("up")
    assert up.returncode == 0, up.stderr
    _, before = bundle.status()
    assert bundle.interrupted("start   serving-2", "up", "--scale", "2") == 130
    exit_status, after = bundle.status()
    assert exit_status == 0
    assert [one["id"] for one in after["containers"]] == [one["id"] for one in before["containers"]]


def test_without_a_model_nothing_is_started(bundle: Bundle) -> None:
    (bundle.models / "staging").mkdir()
    up = bundle("up")
    assert up.returncode == 1
    assert _last(up).endswith(f"{bundle.models} holds no version; make one with `python -m export`")
    assert _left() == ""


def test_a_server_that_does_not_become_well_tells_why_and_is_removed(bundle: Bundle) -> None:
    (bundle.models / "1").mkdir()
    (bundle.models / "1" / "saved_model.pb").write_bytes(b"broken")
    up = bundle("up", "--timeout", "45")
    assert up.returncode == 1
    assert "the end of serving-1's log:" in up.stderr
    assert "Loading servable version {name: mnist version: 1} failed" in up.stderr
    assert re.search(r"after 45 s serving-1 is (re)?starting", _last(up))
    assert _left() == ""


def test_a_gateway_that_ends_again_and_again_is_not_waited_for(
    bundle: Bundle, published: Version, stand_in: str
) -> None:
    _publish(published, bundle)
    up = bundle("up", NGINX_IMAGE=stand_in)
    assert up.returncode == 1
    assert "the end of gateway-1's log:" in up.stderr
    assert "nginx: not found" in up.stderr
    assert "gateway-1 ends again and again" in _last(up)
    assert _left() == ""


def test_a_port_that_is_taken(bundle: Bundle, published: Version) -> None:
    _publish(published, bundle)
    with socket.create_server(("127.0.0.1", bundle.rest)):
        up = bundle("up")
    assert up.returncode == 1
    assert f"port {bundle.rest} of this machine is taken by another program" in _last(up)
    assert _left() == ""


def test_an_image_that_cannot_be_pulled(bundle: Bundle, published: Version) -> None:
    _publish(published, bundle)
    (port,) = free_ports(1)
    image = f"localhost:{port}/serving:1"
    up = bundle("up", TFS_IMAGE=image)
    assert up.returncode == 1
    assert f"the image {image} cannot be pulled" in _last(up)
    assert "undo" not in up.stderr  # there is nothing
    assert _left() == ""


def test_an_image_that_is_pulled_but_cannot_run(bundle: Bundle, published: Version) -> None:
    _publish(published, bundle)
    with fake_registry() as image:
        up = bundle("up", TFS_IMAGE=image)
    assert f"pull    {image}\n" in up.stderr
    assert up.returncode == 1
    assert "No such file or directory" in up.stderr  # in the log
    assert "serving-1 ends again and again" in _last(up)
    assert _left() == ""
    _docker("rmi", image)  # it is there now


def test_a_gpu_that_the_engine_does_not_have(bundle: Bundle, published: Version) -> None:
    if "nvidia" in _docker("info", "--format={{.Runtimes}}"):
        pytest.skip("this engine has the NVIDIA runtime")
    _publish(published, bundle)
    up = bundle("up", "--gpu")
    assert up.returncode == 1
    assert "the engine has no NVIDIA runtime" in _last(up)
    assert _left() == ""
