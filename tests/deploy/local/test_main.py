"""Whole processes: starting, switching versions, stopping, and refusing to start."""

import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.deploy.local.conftest import DEADLINE


def publish(source: Any, target: Any) -> None:
    """Make a copy appear at once."""
    target.parent.mkdir(exist_ok=True)
    shutil.copytree(source, target.with_name(f".new-{target.name}")).rename(target)


def output(server: Any) -> tuple[int, str]:
    return server.process.wait(DEADLINE), server.log.read_text()


def test_from_no_model_to_a_new_version(
    models: Path, start_server: Any, tmp_path: Path, until: Any
) -> None:
    base = tmp_path / "line"
    base.mkdir()
    server = start_server("--no_such_flag=1", model_name="line", model_base_path=base)
    until(lambda: "No versions of servable line found" in server.log.read_text(), "a look")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
    assert "unknown argument: --no_such_flag=1\nusage: " in server.log.read_text()

    publish(models / "line" / "1", base / "1")
    server.wait_ready()
    assert server.predict("line", x=np.array([2], np.float32)).outputs["y"].float_val == [3.0]

    (base / "2").write_text("no folder")
    until(lambda: server.states("line") == {1: "AVAILABLE", 2: "END"}, "the failure")
    publish(models / "line" / "3", base / "3")
    until(lambda: server.states("line") == {1: "END", 2: "END", 3: "AVAILABLE"}, "the switch")
    assert server.predict("line", x=np.array([2], np.float32)).outputs["y"].float_val == [5.0]

    server.ask_to_stop()
    assert output(server)[0] == 0


def waiting_requests(server: Any, path: Path, until: Any) -> tuple[Any, Any]:
    """A gRPC and a REST request that run until `<path>-rpc` and `<path>-rest` exist."""
    pool = ThreadPoolExecutor(2)
    rpc = pool.submit(server.predict, "wait", path=f"{path}-rpc".encode())
    body = f'{{"inputs": "{path}-rest"}}'
    rest = pool.submit(server.rest, "POST", "/v1/models/wait:predict", body)
    for name in ("rpc", "rest"):
        until(path.with_name(f"{path.name}-{name}.here").exists, "the request to run")
    return rpc, rest


def test_what_runs_at_sigterm_is_finished(
    models: Path, start_server: Any, tmp_path: Path, until: Any
) -> None:
    server = start_server(
        model_name="wait", model_base_path=models / "wait", drain_seconds=60
    ).wait_ready()
    path = tmp_path / "go"
    rpc, rest = waiting_requests(server, path, until)
    server.ask_to_stop()
    until(lambda: not server.accepts(), "the ports to close")
    assert server.process.poll() is None
    for name in ("rpc", "rest"):
        path.with_name(f"go-{name}").touch()
    assert list(rpc.result(60).outputs["done"].bool_val) == [True]
    assert rest.result(60)[::2] == (200, '{\n    "outputs": true\n}')
    assert output(server)[0] == 0


def test_the_drain_is_bounded(models: Path, start_server: Any, tmp_path: Path, until: Any) -> None:
    server = start_server(
        model_name="wait", model_base_path=models / "wait", drain_seconds=0.2
    ).wait_ready()
    rpc, rest = waiting_requests(server, tmp_path / "never", until)
    server.ask_to_stop()
    assert output(server)[0] == 0
    with pytest.raises(grpc.RpcError):
        rpc.result(60)
    assert rest.exception(60) is not None


def test_a_first_version_that_does_not_load(
    models: Path, start_server: Any, tmp_path: Path
) -> None:
    publish(models / "line" / "1", tmp_path / "line" / "1")
    (tmp_path / "line" / "1" / "saved_model.pb").unlink()
    status, text = output(start_server(model_name="line", model_base_path=tmp_path / "line"))
    assert status == 255
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available:"
        " {{{name: line version: 1} due to error: NOT_FOUND: Specified file path" in text
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--port=x"], 255, "Couldn't interpret value x for flag port.\nusage: "),
        (["--help"], 0, "usage: "),
        (["--version"], 0, "TensorFlow ModelServer: "),
        (
            ["--model_base_path=models/mnist"],
            255,
            "Failed to start server. Error: INVALID_ARGUMENT: Expected model default to have an"
            " absolute path or URI; got base_path()=models/mnist",
        ),
    ],
)
def test_ends_by_itself(start_server: Any, arguments: list[str], status: int, said: str) -> None:
    ended, text = output(start_server(*arguments))
    assert ended == status
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize("level", ["", "3", "1"])
def test_tensorflows_import_writes_nothing(level: str) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": level}
    if not level:
        del environment["TF_CPP_MIN_LOG_LEVEL"]
    command = [sys.executable, "-m", "deploy.local", "--port=0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (255, "")
    assert done.stdout.startswith("Failed to start server. Error: ")


def test_a_config_file_that_is_polled(
    models: Path, start_server: Any, tmp_path: Path, until: Any
) -> None:
    folders = tmp_path / "v1", tmp_path / "v2", tmp_path / "v3"
    one = f'config {{ name: "line" base_path: "{models}/line" model_platform: "tensorflow" }}'
    two = one.replace('name: "line"', 'name: "again"')
    for folder, text in zip(
        folders, (f"model_config_list {{ {text} }}" for text in (one, one + two, "?")), strict=True
    ):
        folder.mkdir()
        (folder / "models.config").write_text(text)
    # As in a mounted folder: what changes is where a link in the middle of the path points.
    mounted = tmp_path / "mounted"

    def mount(folder: Path) -> None:
        (tmp_path / "new").symlink_to(folder)
        (tmp_path / "new").rename(mounted)

    mount(folders[0])
    server = start_server(
        model_config_file=mounted / "models.config", model_config_file_poll_wait_seconds=1
    ).wait_ready()
    mount(folders[1])
    until(lambda: "(Re-)adding model: again" in server.log.read_text(), "the second model")
    mount(folders[2])
    until(lambda: "failed to ReloadConfig: INVALID_ARGUMENT" in server.log.read_text(), "the fault")
    until(lambda: server.states("again") == {3: "AVAILABLE"}, "the second model's version")
    mount(folders[0])
    until(lambda: server.states("again") == {3: "END"}, "the end of the second model")
    assert server.states("line") == {3: "AVAILABLE"}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
        ("::", ["::1", "127.0.0.1"]),
        ("[::]", ["::1", "127.0.0.1"]),
    ],
)
def test_every_form_of_an_address_opens_both_ports(
    host: str, reached: list[str], models: Path, start_server: Any
) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = start_server(model_name="line", model_base_path=models / "line", host=host)
    for address in reached:
        for port in (server.port, server.rest_port):
            _until_open(address, port, server)


def _until_open(address: str, port: int, server: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection((address, port), 5).close()
        except OSError:
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)
        else:
            return
