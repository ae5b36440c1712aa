"""The server's start in its container, with a program in the server's place."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import model_config
from tests.deploy.conftest import ROOT

SERVING = ROOT / "deploy" / "serving"
CORE = "2026-11-30 06:00:00.1: I tensorflow_serving/model_servers/server_core.cc"
NOISE = f"""{CORE}:465] Adding/updating models.
{CORE}:591]  (Re-)adding model: mnist
2026-11-30 06:00:00,3 I  (Re-)adding model: second
"""
KEPT = f"""{CORE}:71] Loading servable version {{name: mnist version: 1}}
{CORE}:95] Failed to read ModelServerConfig file: x
"""


def _start(folder: Path, script: str) -> subprocess.Popen[str]:
    """Run start.sh as the engine's init does: in a process group of its own."""
    server = folder / "server"
    server.write_text(f"#!/bin/bash\n{script}\n")
    server.chmod(0o755)
    start = folder / "start.sh"
    text = (SERVING / "start.sh").read_text()
    assert text.count("/usr/bin/tf_serving_entrypoint.sh") == 1
    start.write_text(text.replace("/usr/bin/tf_serving_entrypoint.sh", str(server)))
    start.chmod(0o755)
    return subprocess.Popen(
        [start, "--one", "two words"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_only_the_noise_is_left_out_and_the_last_words_are_heard(tmp_path: Path) -> None:
    (tmp_path / "said").write_text(NOISE + KEPT)
    script = f'cat {tmp_path}/said; printf "%s|" "$@" >&2; echo; echo last words >&2; exit 255'
    with _start(tmp_path, script) as process:
        said, _ = process.communicate(timeout=60)
    assert said == f"{KEPT}--one|two words|\nlast words\n"
    assert process.returncode == 255


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server_which_may_take_its_time(
    how: signal.Signals, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    child.write_text(
        "#!/bin/bash\ntrap 'sleep 1; echo drained; exit 0' TERM\necho runs\n"
        "while true; do sleep 0.1; done\n"
    )
    child.chmod(0o755)
    # As the official image's start: a shell that waits for the server.
    with _start(tmp_path, f"{child}\nexit $?") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
    assert said.endswith("drained\n")
    assert process.returncode in (0, 128 + signal.SIGTERM, 128 + how)


def test_a_server_that_is_killed_is_told_by_its_status(tmp_path: Path) -> None:
    begun = time.monotonic()
    with _start(tmp_path, "kill -KILL $$") as process:
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert time.monotonic() - begun < 60


CONFIG = """
model_config_list {  # config { name: "commented" }
  config { name: "mnist" base_path: "/name: \\"no\\"" version_labels { key: "name" value: 1 } }
  config {
    name :
      'second'  # "
    base_path: '# name: "no"'
  }
  config{name:"third"}}
"""


@pytest.mark.parametrize("text", [CONFIG, "", "model_config_list {}", None])
def test_the_names_are_those_that_the_server_reads(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [SERVING / "models.sh", path], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    expected = [model.name for model in model_config.read(path)] if text is not None else []
    assert done.stdout.splitlines() == expected
    assert (text == CONFIG) == bool(expected)


@pytest.mark.parametrize("states", [{}, {"b": "LOADING"}, {"b": "END"}, {"a": "START", "b": "END"}])
def test_it_is_healthy_when_every_model_has_a_version(
    states: dict[str, str], tmp_path: Path
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = self.path.removeprefix("/v1/models/")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{ "state": "{states.get(model, "AVAILABLE")}" }}'.encode())

        def log_message(self, *_: object) -> None:
            pass

    config = tmp_path / "models.config"
    config.write_text('model_config_list { config { name: "a" } config { name: "b" } }')
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = (SERVING / "healthy.sh").read_text()
        for old, new in (
            ("/serving/models.sh", str(SERVING / "models.sh")),
            ("/config/", f"{tmp_path}/"),
            ("8501", str(server.server_port)),
        ):
            assert old in text
            text = text.replace(old, new)
        command = ["bash", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == bool(states), done.stderr
        assert done.stdout == (f"no version of {min(states)} is AVAILABLE\n" if states else "")
        config.unlink()  # what is to be served, nobody knows
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        server.shutdown()
