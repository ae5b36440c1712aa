"""The exporter as a process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.runner import free_ports
from tests.deploy.exporter.test_access_log import line


def scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


def test_it_counts_lines_and_ends_when_told(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text('model_config_list { config { name: "mnist" } }')
    port, syslog, nobody = free_ports(3)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.exporter", f"--models={config}"),
            *(f"--port={port}", f"--syslog={syslog}"),
            *(f"--serving=127.0.0.1:{nobody}", f"--gateway=127.0.0.1:{nobody}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nginx:  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            expected = (
                'digits_gateway_requests_total{key="alice",method="predict",model="mnist",'
                'outcome="answered",side="stable",status="200"}',
                f'digits_replica_up{{replica="127.0.0.1:{nobody}"}} 0.0',
            )
            seen = ""
            while not all(each in seen for each in expected):
                assert time.monotonic() < deadline, seen
                # UDP to a port that is not open yet is lost.
                nginx.sendto(line(), ("127.0.0.1", syslog))
                time.sleep(0.05)
                seen = scrape(port)
            assert "_created" not in seen
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
