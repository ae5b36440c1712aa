"""Start a temporary server for a model, of the kind that the environment names.

Nothing set: `python -m deploy.local`. `SERVING_BINARY=/path/to/tensorflow_model_server`: that
program. `SERVING_IMAGE=tensorflow/serving:2.21.0`: that image, with Docker. All take the same flags
and give the same answers, so what works with one works with the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy import environment
from tfserving_client import ServingClient

START_TIMEOUT = 120.0  # seconds; an image on a busy machine is slow
_STOP_TIMEOUT = 30.0  # seconds
# As in the compose file: by default a real server refuses calls of a few busy callers.
THREADS = "--grpc_max_threads=256"
_POLL = 0.05  # seconds
_MOST_SAID = 4_000  # characters
_NO_CONTAINER = 125  # the exit status of `docker run` if Docker itself failed
_IMAGE_PORTS = (8500, 8501)  # fixed by the image's entry point
_PORTS = range(10_081, 32_768)  # browsers refuse 10080
_untried = iter(random.sample(_PORTS, len(_PORTS)))  # so that no port is given twice


class StartFailed(Exception):
    """The server ended, or did not serve a version in time.

    Attributes:
        what: what happened to it, in a few words.
        said: the end of its output.
    """

    def __init__(self, what: str, command: str = "", said: str = "") -> None:
        super().__init__(f"`{command}` {what}; it wrote:\n{said}" if command else what)
        self.what, self.said = what, said


class NoServer(StartFailed):
    """No server can be started here, for any model."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        grpc_url: for clients.
        rest_url: for clients.
        command: the command line that starts the same server.
        process: the server, or `docker run`.
        container: its name, if it runs in one.
    """

    grpc_url: str
    rest_url: str
    command: str
    process: subprocess.Popen[bytes]
    container: str = ""

    def peak_memory(self) -> int | None:
        """The peak memory of the server in bytes so far; None without /proc."""
        read = ["docker", "exec", self.container] if self.container else []
        process = "[0-9]*" if self.container else str(self.process.pid)
        command = [*read, "sh", "-c", f"cat /proc/{process}/status"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        peaks = re.findall(r"^VmHWM:\s*([0-9]+) kB", told, re.MULTILINE)
        return 1024 * max(map(int, peaks)) if peaks else None


@contextlib.contextmanager
def serve(
    folder: Path,
    *,
    name: str = "",
    version: int | None = None,
    flags: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
    timeout: float = START_TIMEOUT,
) -> Iterator[Server]:
    """Serve a model's versions, or one of them, on free loopback ports.

    Yields when a version is AVAILABLE; stops the server at the end, and if this process is killed.

    Args:
        folder: of the versions, or with `version` the folder of one version, of any name.
        name: the name of the model; the default is the folder's.
        version: the number of the only version.
        flags: more flags of the server.
        files: flag → the file for it.
        timeout: seconds until a version has to be AVAILABLE.

    Raises:
        NoServer: there is no program, engine or image.
        StartFailed: no version became AVAILABLE.
    """
    ports = free_ports(2)
    folder = folder.resolve()
    name = name or folder.name
    files = {flag: path.resolve() for flag, path in (files or {}).items()}
    with contextlib.ExitStack() as opened:
        container = ""
        if image := os.environ.get("SERVING_IMAGE"):
            container = f"temporary-server-{ports[0]}"
            command = _in_container(container, image, folder, name, version, ports, files)
        else:
            if version is not None:
                alone = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="serve-")))
                (alone / str(version)).symlink_to(folder)
                folder = alone
            command = [*_program(), *(f"--{flag}={path}" for flag, path in files.items())]
            command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
            command += [f"--model_name={name}", f"--model_base_path={folder}"]
        command += [THREADS, *flags]
        log = opened.enter_context(tempfile.TemporaryFile())
        try:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        except OSError as error:
            raise NoServer(f"{command[0]} cannot be started: {error.strerror}") from error
        opened.callback(_stop, process)
        opened.enter_context(_ending_with_this_process(process))
        server = Server(
            f"grpc://127.0.0.1:{ports[0]}",
            f"http://127.0.0.1:{ports[1]}",
            " ".join(command).replace(sys.executable, "python"),
            process,
            container,
        )
        _wait_until_ready(server, name, log, timeout)
        yield server


def kind() -> str:
    """The kind of server: an image, a program, or the local server."""
    image, binary = os.environ.get("SERVING_IMAGE"), os.environ.get("SERVING_BINARY")
    return image or binary or "python -m deploy.local"


def _program() -> list[str]:
    if binary := os.environ.get("SERVING_BINARY"):
        return [binary]
    return [sys.executable, "-m", "deploy.local"]


def _in_container(
    container: str,
    image: str,
    folder: Path,
    name: str,
    version: int | None,
    ports: Sequence[int],
    files: Mapping[str, Path],
) -> list[str]:
    model = f"/models/{name}" if version is None else f"/models/{name}/{version}"
    return [
        *("docker", "run", "--rm", "--init", f"--name={container}"),
        *(
            f"--publish=127.0.0.1:{outside}:{inside}"
            for outside, inside in zip(ports, _IMAGE_PORTS, strict=True)
        ),
        f"--volume={folder}:{model}:ro",
        *(f"--volume={path}:/flags/{flag}:ro" for flag, path in files.items()),
        f"--env=MODEL_NAME={name}",
        image,
        *(f"--{flag}=/flags/{flag}" for flag in files),
    ]


def _wait_until_ready(server: Server, name: str, log: IO[bytes], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with ServingClient(server.rest_url, model=name, timeout=5) as serving:
        while not serving.ready():
            status = server.process.poll()
            if status is not None or time.monotonic() > deadline:
                what = "gave no answer in time" if status is None else f"ended with status {status}"
                log.seek(0)
                said = log.read().decode(errors="replace").strip()[-_MOST_SAID:]
                if (server.container and status == _NO_CONTAINER) or environment.TOLD in said:
                    raise NoServer(f"{kind()} cannot be started: {said}")
                raise StartFailed(what, server.command, said)
            time.sleep(_POLL)


@contextlib.contextmanager
def _ending_with_this_process(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Even if this process is killed: then the pipe closes that a watcher reads from."""
    command = ["sh", "-c", 'read -r _; kill "$1"', "sh", str(server.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.kill()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Free loopback ports, which this function gives to no other caller while this process lives.

    A server binds its ports seconds after they are chosen. Nothing else takes them until then:
    outgoing connections use a higher range (from 32768 on Linux, 49152 elsewhere), and a lock on
    byte n of one file, held until this process ends, reserves port n.
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
    """A descriptor that stays open: closing any descriptor of this file would release the locks."""
    path = Path(tempfile.gettempdir(), f"digits-serving-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
