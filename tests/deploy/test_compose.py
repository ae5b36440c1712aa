"""The compose files, on a real engine, with a stand-in where the official image would be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import DigitClient, Unreachable
from tests.conftest import Version
from tests.deploy.conftest import ROOT

GPU = ["-f", "deploy/docker-compose.yml"]
CPU = [*GPU, "-f", "deploy/docker-compose.cpu.yml"]
PORTS = {"GRPC_PORT": "18500", "REST_PORT": "18501"}
REST, GRPC = "http://127.0.0.1:18501", "grpc://127.0.0.1:18500"

Compose = Callable[..., subprocess.CompletedProcess[str]]


def _compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _config(*files: str) -> dict[str, Any]:
    done = _compose(*files, "config", "--format=json")
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


@pytest.mark.usefixtures("engine")
def test_plain_compose_in_the_root_is_the_gpu_server() -> None:
    config = _config()
    assert config == _config(*GPU)
    serving = config["services"]["serving"]
    assert serving["image"] == "tensorflow/serving:2.20.0-gpu"
    (device,) = serving["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert serving["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert serving["init"] is True
    assert serving["restart"] == "unless-stopped"


@pytest.mark.usefixtures("engine")
def test_the_cpu_override_asks_for_no_gpu() -> None:
    serving = _config(*CPU)["services"]["serving"]
    assert serving["image"] == "tensorflow/serving:2.20.0"
    assert "deploy" not in serving


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("files", [GPU, CPU])
def test_models_are_read_only_and_ports_stay_on_this_machine(files: list[str]) -> None:
    serving = _config(*files)["services"]["serving"]
    (volume,) = serving["volumes"]
    assert volume["read_only"] is True
    assert (volume["source"], volume["target"]) == (str(ROOT / "models"), "/models")
    assert [port["host_ip"] for port in serving["ports"]] == ["127.0.0.1"] * 2


def test_the_servers_version_stands_once() -> None:
    files = [ROOT / ".env", *(ROOT / "deploy").glob("*.yml")]
    assert sum(path.read_text().count("2.20.0") for path in files) == 1
    for path in (ROOT / "deploy").glob("*.yml"):
        assert "latest" not in path.read_text()


def test_every_flag_is_one_the_server_knows() -> None:
    """The real server ignores unknown flags with a line in its log, so a misspelt one is silent."""
    from deploy.local.flags import parse

    text = (ROOT / "deploy" / "docker-compose.yml").read_text()
    flags = re.findall(r"^ +- (--\S+)$", text, re.MULTILINE)
    _, unknown = parse(flags)
    assert flags
    assert not unknown


@pytest.fixture
def compose(stand_in: str, tmp_path: Path) -> Iterator[Compose]:
    """Compose on the CPU files, with the stand-in, own ports, and an empty model repository."""
    models = tmp_path / "models"
    models.mkdir()
    environment = {"TFS_IMAGE": stand_in, "MODELS": str(models), **PORTS}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _compose("--project-name=digits-test", *CPU, *arguments, **environment)

    yield run
    run("down", "--timeout=5")


def _publish(version: Version, repository: Path, number: int) -> None:
    staged = repository / "mnist" / f".staging-{number}"
    shutil.copytree(version.path, staged)
    staged.rename(repository / "mnist" / str(number))


def _inspect(what: str) -> str:
    inspect = ["docker", "inspect", f"--format={what}", "digits-test-serving-1"]
    return subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()


def _health() -> str:
    return _inspect("{{.State.Health.Status}}")


def test_up_classify_new_version_down(compose: Compose, published: Version, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "mnist").mkdir()
    _publish(published, repository, 1)
    up = compose("up", "--detach", "--wait")
    assert up.returncode == 0, up.stderr
    assert _health() == "healthy"
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    with DigitClient(GRPC) as over_grpc, DigitClient(REST) as over_rest:
        for digits in (over_grpc, over_rest):
            answer = digits.classify(images)
            np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
        _publish(published, repository, 2)
        over_grpc.wait_until_ready(version=2)
        assert over_grpc.classify(images).version == 2

        assert compose("stop").returncode == 0
        assert _inspect("{{.State.ExitCode}}") != "137"  # killed, after ten seconds of grace
        down = compose("down")
        assert down.returncode == 0, down.stderr
        with pytest.raises(Unreachable):
            over_grpc.status()


def test_without_a_version_it_is_not_healthy_and_with_one_it_becomes_so(
    compose: Compose, published: Version, tmp_path: Path
) -> None:
    (tmp_path / "models" / "mnist").mkdir()
    assert compose("up", "--detach").returncode == 0
    probe = compose("exec", "serving", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501")
    assert probe.returncode != 0
    assert _health() == "starting"
    _publish(published, tmp_path / "models", 1)
    assert compose("up", "--detach", "--wait").returncode == 0
    assert _health() == "healthy"
