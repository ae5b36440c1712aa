from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import runner
from deploy.runner import StartFailed, free_ports, serve
from tests.conftest import Version
from tests.deploy.conftest import ROOT
from tests.deploy.monitoring.prometheus import until
from tfserving_client import DigitClient, Policy, Unreachable


def test_the_server_named_by_the_environment_serves_and_is_stopped(
    published: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SERVING_BINARY` may be any program with tensorflow_model_server's flags."""
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text(
        f'#!/bin/sh\necho "$@" > "$0.flags"\nexec {sys.executable} -m deploy.local "$@"\n'
    )
    binary.chmod(0o755)
    monkeypatch.setenv("SERVING_BINARY", str(binary))
    with serve(published.path.parent, name="digits") as server:
        with DigitClient(server.grpc_url, model="digits") as digits:
            assert len(digits.classify(np.zeros((2, 28, 28), np.uint8))) == 2
        assert server.command.startswith(f"{binary} --port=")
    assert server.process.returncode == 0
    given = Path(f"{binary}.flags").read_text()
    assert "--model_name=digits" in given
    assert runner.THREADS in given
    assert f"- {runner.THREADS}\n" in (ROOT / "deploy/docker-compose.yml").read_text()
    with DigitClient(server.rest_url) as digits, pytest.raises(Unreachable):
        digits.status()


def test_a_server_ends_with_the_process_that_started_it_even_if_that_is_killed(
    published: Version,
) -> None:
    serving = (
        "import sys, pathlib\n"
        "from deploy.runner import serve\n"
        "with serve(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.rest_url, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", serving, str(published.path.parent)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip() if process.stdout else ""
        name = published.path.parent.name
        with DigitClient(url, model=name, policy=Policy(attempts=1)) as digits:
            assert digits.status()
            process.kill()

            def ended() -> bool:
                try:
                    return not digits.status()
                except Unreachable:
                    return True

            until(ended, "the end of the server")


def test_a_port_is_given_once_whoever_asks() -> None:
    """Not to another process before anybody listens on it, nor one that outgoing calls may use."""
    asking = "from deploy.runner import free_ports; print(*free_ports(1)); input()"
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", f"import random; random.seed(1); {asking}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        ports = [int(other.stdout.readline()) for other in others if other.stdout]
        for other in others:
            other.communicate("\n")
    assert len(set(ports)) == 3
    assert max(ports) < 32768


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, free = free_ports(2)
    with socket.create_server(("0.0.0.0", busy)):
        monkeypatch.setattr(runner, "_untried", iter([busy, free]))
        assert free_ports(1) == [free]


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    (tmp_path / "mnist" / "1").mkdir(parents=True)
    with (
        pytest.raises(StartFailed, match=r"(?s)ended with status 255.*SavedModel bundle"),
        serve(tmp_path / "mnist", flags=["--max_num_load_retries=0"]),
    ):
        pass
