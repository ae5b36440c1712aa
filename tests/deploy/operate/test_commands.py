"""`python -m deploy` where nothing can run: each thing that is missing is one sentence."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import main
from tests.deploy.conftest import ROOT
from tests.deploy.operate.fake_engine import fake_engine

DEPLOY = [sys.executable, "-m", "deploy"]
ENGINE_COMMANDS = ["up", "down", "status"]
needs_docker = pytest.mark.skipif(
    not shutil.which("docker"), reason="the `docker` command is not installed"
)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Own secrets and models, both missing, and no engine."""
    monkeypatch.setenv("DEPLOY_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv("MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///none")
    return tmp_path


def _refused(command: Sequence[str], **changed: str) -> str:
    """The one line of a refusal, of a process of its own: the SDK leaves sockets open behind it."""
    environment = {**os.environ, **changed}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m deploy: ")
    return line


def _command(folder: Path, script: str) -> None:
    """A `docker` command that does this."""
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@needs_docker
@pytest.mark.parametrize("command", ENGINE_COMMANDS)
def test_no_engine(command: str) -> None:
    line = _refused([*DEPLOY, command])
    assert "no container engine answers at unix:///none" in line
    assert "start it" in line


@pytest.mark.parametrize("command", ENGINE_COMMANDS)
def test_no_docker_command(command: str, tmp_path: Path) -> None:
    assert "there is no `docker` command" in _refused([*DEPLOY, command], PATH=str(tmp_path))


@pytest.mark.parametrize("command", ENGINE_COMMANDS)
def test_no_compose(command: str, tmp_path: Path) -> None:
    _command(tmp_path, "exit 1")
    assert "Docker has no Compose plugin" in _refused([*DEPLOY, command], PATH=str(tmp_path))


@needs_docker
def test_an_engine_of_others(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    command = [*DEPLOY, "status"]
    if os.geteuid() == 0:  # whom permissions do not stop, unless this right is taken
        if not shutil.which("setpriv"):
            pytest.skip("as root this needs setpriv")
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    with socketserver.UnixStreamServer(str(path), socketserver.BaseRequestHandler):
        path.chmod(0)
        line = _refused(command, DOCKER_HOST=f"unix://{path}")
    assert "you may not use the container engine" in line


@pytest.fixture
def gpu_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    runtimes: dict[str, Any] = {"Runtimes": {"nvidia": {}, "runc": {}}}
    answers = {"/info": runtimes, "/containers/json": []}
    with fake_engine(tmp_path / "gpu.sock", answers) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        yield


@needs_docker
@pytest.mark.usefixtures("gpu_engine")
@pytest.mark.parametrize(("flags", "device"), [([], "GPU"), (["--gpu"], "GPU"), (["--cpu"], "CPU")])
def test_with_the_nvidia_runtime_it_is_the_gpu_unless_told_otherwise(
    flags: list[str], device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", *flags]) == 1
    said = capsys.readouterr().err
    assert f"serving on the {device}\n" in said
    # As far as it gets: there is no model.
    assert f"{tmp_path / 'models' / 'mnist'} holds no version" in said.splitlines()[-1]
    assert "python -m export" in said.splitlines()[-1]


@needs_docker
@pytest.mark.parametrize(
    ("info", "flags", "device"),
    [
        (
            {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]},
            [],
            "GPU, through CDI",
        ),
        ({"CDISpecDirs": ["{folder}", "/nowhere"]}, ["--gpu"], "GPU, through CDI"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, ["--cpu"], "CPU"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "other.com/nic=0"}]}, [], "CPU"),
        ({"CDISpecDirs": ["/nowhere"], "DiscoveredDevices": None}, [], "CPU"),
    ],
)
def test_a_gpu_by_cdi_alone_is_one(
    info: dict[str, Any],
    flags: list[str],
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").touch()
    told = json.loads(json.dumps(info).replace("{folder}", str(tmp_path / "cdi")))
    answers = {"/info": {"Runtimes": {"runc": {}}, **told}, "/containers/json": []}
    with fake_engine(tmp_path / "cdi.sock", answers) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert main(["up", *flags]) == 1
    assert f"serving on the {device}\n" in capsys.readouterr().err


@needs_docker
@pytest.mark.usefixtures("gpu_engine")
def test_a_certificate_is_made_once_and_its_end_is_spoken_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = tmp_path / "secrets" / "gateway" / "server.pem"
    main(["up"])
    assert "certificate for localhost" in capsys.readouterr().err
    made = server.read_bytes()
    main(["up"])
    said = capsys.readouterr().err
    assert "certificate for" not in said
    assert "renews it" not in said
    assert server.read_bytes() == made
    assert main(["certificates", "--days", "20"]) == 0
    capsys.readouterr()
    main(["up"])
    assert "`python -m deploy certificates` renews it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["keys"],
        ["keys", "create"],
        ["up", "--scale", "0"],
        ["up", "--scale", "x"],
        ["up", "--cpu", "--gpu"],
        ["certificates", "--days", "0"],
        ["nonsense"],
    ],
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m deploy" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["up"], ["keys"], ["keys", "create"], ["certificates"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        assert main(["keys", "create", name]) == 0
    command = [*DEPLOY, "keys", "list"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (tmp_path / "secrets" / "gateway" / "keys.conf").exists()
