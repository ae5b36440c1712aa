"""Start a throw-away server on a model, whichever kind the environment names.

Nothing set: `python -m deploy.local`. `SERVING_BINARY=/path/to/tensorflow_model_server`: that
program. `SERVING_IMAGE=tensorflow/serving:2.21.0`: that image, with Docker. All take the same flags
and answer alike, so what runs against one runs against the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfserving_client import ServingClient

START_TIMEOUT = 120.0  # seconds; an image on a busy machine takes its time
_STOP_TIMEOUT = 30.0  # seconds
# As the compose file has it: by default a real server refuses calls of a few busy callers.
THREADS = "--grpc_max_threads=256"
_IMAGE_PORTS = (8500, 8501)  # fixed by the image's entry point
_PORTS = range(10_081, 32_768)  # browsers refuse 10080
_untried = iter(random.sample(_PORTS, len(_PORTS)))  # so that none is given twice


class StartFailed(Exception):
    """The server ended, or did not serve a version in time; holds the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `command` is what a person would type to start the same."""

    grpc_url: str
    rest_url: str
    command: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serve(base_path: Path, *, name: str = "", flags: Sequence[str] = ()) -> Iterator[Server]:
    """Serve the versions under `base_path` on free loopback ports, by its name or another.

    Yields when a version is AVAILABLE; stops the server in the end.

    Raises:
        StartFailed: no version became AVAILABLE.
    """
    grpc_port, rest_port = free_ports(2)
    base_path = base_path.resolve()
    name = name or base_path.name
    if image := os.environ.get("SERVING_IMAGE"):
        command = _image_command(image, base_path, name, grpc_port, rest_port)
    else:
        binary = os.environ.get("SERVING_BINARY")
        command = [
            *([binary] if binary else [sys.executable, "-m", "deploy.local"]),
            f"--port={grpc_port}",
            f"--rest_api_port={rest_port}",
            f"--model_name={name}",
            f"--model_base_path={base_path}",
        ]
    command += [THREADS, *flags]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            server = Server(
                f"grpc://127.0.0.1:{grpc_port}",
                f"http://127.0.0.1:{rest_port}",
                " ".join(command).replace(sys.executable, "python"),
                process,
            )
            _wait_until_ready(server, name, log)
            yield server
        finally:
            _stop(process)


def _image_command(
    image: str, base_path: Path, name: str, grpc_port: int, rest_port: int
) -> list[str]:
    published = zip((grpc_port, rest_port), _IMAGE_PORTS, strict=True)
    return [
        *("docker", "run", "--rm", "--init"),
        *(f"--publish=127.0.0.1:{outside}:{inside}" for outside, inside in published),
        f"--volume={base_path}:/models/{name}:ro",
        f"--env=MODEL_NAME={name}",
        image,
    ]


def _wait_until_ready(server: Server, name: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with ServingClient(server.rest_url, model=name, timeout=5) as serving:
        while not serving.ready():
            status = server.process.poll()
            if status is not None or time.monotonic() > deadline:
                what = "gave no answer in time" if status is None else f"ended with status {status}"
                log.seek(0)
                said = log.read().decode(errors="replace").strip()[-2000:]
                raise StartFailed(f"`{server.command}` {what}; it wrote:\n{said}")
            time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, and that nobody is given while this process lives.

    A server binds its ports seconds after they are chosen. Nothing else takes them until then:
    outgoing connections are given theirs from above (32768 on Linux, 49152 elsewhere), and byte n
    of one file, locked until this process ends, keeps port n from whoever else asks here.
    """
    return list(itertools.islice(filter(_is_free, _untried), count))


def _is_free(port: int) -> bool:
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@functools.cache
def _reservations() -> int:
    """A descriptor that stays open: closing any on this file would give up the process's locks."""
    path = Path(tempfile.gettempdir(), f"digits-serving-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
