"""`python -m export --verify`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.__main__ import main
from tests.export.models import zoo

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of strings."""
    path = tmp_path / "city.keras"
    zoo.embedding().model.save(path)
    return path


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a shell script the server."""

    def write(script: str) -> Path:
        path = tmp_path / "tensorflow_model_server"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.delenv("SERVING_IMAGE", raising=False)
        monkeypatch.setenv("SERVING_BINARY", str(path))
        return path

    return write


def _arguments(model: Path) -> list[str]:
    return [f"--repository={model.parent / 'models'}", f"--model={model}", "--name=city"]


def test_what_answers_on_a_server_is_published(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*_arguments(model), "--verify"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{model.parent / 'models' / 'city' / '1'}\n"
    assert "answers serving_default over gRPC and REST as it must" in told.err


def test_what_a_server_does_not_load_is_not_published(
    model: Path, binary: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    binary("echo 'due to error: NOT_FOUND: Op type not registered}, }'; exit 255")
    assert main([*_arguments(model), "--verify"]) == 1
    (*_, last) = capsys.readouterr().err.splitlines()
    assert last == (
        "python -m export: not published: on a server, it does not load: NOT_FOUND: Op type not "
        "registered"
    )
    assert not (model.parent / "models").exists()


def test_without_a_server_nothing_is_published(
    model: Path, binary: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    binary("").unlink()
    assert main([*_arguments(model), "--verify"]) == 2
    (*_, last) = capsys.readouterr().err.splitlines()
    assert "--verify: python -m deploy: " in last
    assert "tensorflow_model_server cannot be started: No such file or directory" in last
    assert not (model.parent / "models").exists()


def test_an_interrupted_verification_stops_its_server(
    model: Path, binary: Callable[[str], Path], tmp_path: Path
) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    binary(f"echo $$ > {started}; exec sleep 600")
    command = [sys.executable, "-m", "export", *_arguments(model), "--verify"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        process = int(started.read_text())
        run.send_signal(signal.SIGTERM)
        _, told = run.communicate()
    assert run.returncode == 130, told
    assert told.splitlines()[-1] == "python -m export: interrupted; nothing was published"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert not (tmp_path / "models").exists()
