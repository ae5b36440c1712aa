"""The gateway outside of containers: the committed files, run on this machine's nginx.

A copy has the container's folders and ports replaced by a test's own, and finds its replicas by a
`getent` that reads a file.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from deploy.operate.access import certificates, keys, secret_files
from deploy.runner import free_ports
from tfserving_client import Tls

ROOT = Path(__file__).parents[2]
DEADLINE = 180.0  # seconds for what takes one or two
START = ROOT / "deploy" / "gateway" / "start.sh"
_GETENT = '#!/bin/sh\nsed "s/$/ STREAM/" {hosts}/"$2" 2>/dev/null\n'


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    folder: Path
    tls_port: int
    grpc_port: int
    rest_port: int

    @property
    def secrets(self) -> Path:
        """What the container sees as /etc/gateway."""
        return self.folder / "secrets" / "gateway"

    @property
    def tls(self) -> Tls:
        """What a client trusts."""
        return Tls(ca=self.secrets / "ca.pem")

    @property
    def log(self) -> str:
        """All that it wrote, access log and errors."""
        return (self.folder / "log").read_text()

    def new_key(self, name: str) -> str:
        """A key, as `python -m deploy keys create` makes it, which the gateway knows."""
        with self.reloading(), secrets_in(self.folder):
            return keys.create(name).key

    def revoke(self, name: str) -> None:
        """End it."""
        with self.reloading(), secrets_in(self.folder):
            keys.revoke(name)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Wait in the end until nothing is left of what ran before."""
        before = self._workers()
        yield
        until(lambda: self._workers().isdisjoint(before))

    def _workers(self) -> set[str]:
        pid = self.process.pid
        children = set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return {child for child in children if _command(child).startswith("nginx: ")}

    def replicas(self, *addresses: str) -> None:
        """What the name `serving` means from now on."""
        hosts(self.folder, "serving", addresses)

    def canary(self, percent: str, *addresses: str) -> None:
        """Which share is answered by what `candidate` means from now on."""
        hosts(self.folder, "candidate", addresses)
        (self.folder / "canary.config").write_text(percent)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        local: bool = False,
    ) -> Answer:
        """One request over TLS, or at this machine's own port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port)
        if not local:
            context = (tls or self.tls).context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.tls_port, context=context)
        with contextlib.closing(connection):
            with_key = {"x-api-key": key} if key else {}
            connection.request(method, path, body, {**with_key, **(headers or {})})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())

    def channel(self, *, local: bool = False) -> grpc.Channel:
        """For gRPC, over TLS or at this machine's own port."""
        options = [("grpc.max_send_message_length", -1)]
        if local:
            return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options)
        return grpc.secure_channel(f"127.0.0.1:{self.tls_port}", self.tls.credentials(), options)

    def call(
        self,
        method: str,
        body: bytes = b"",
        *,
        key: str = "",
        compression: grpc.Compression = grpc.Compression.NoCompression,
        local: bool = False,
    ) -> tuple[str, Mapping[str, str]]:
        """One call over gRPC: the status's name, and all metadata."""
        with self.channel(local=local) as channel:
            metadata = [("x-api-key", key)] if key else []
            try:
                _, call = channel.unary_unary(method).with_call(
                    body, timeout=DEADLINE, metadata=metadata, compression=compression
                )
            except grpc.RpcError as error:
                call = error
            everything = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
            return call.code().name, dict(everything)


@contextlib.contextmanager
def running(
    folder: Path,
    replicas: Sequence[str],
    ports: tuple[int, int],
    *,
    rate: int = 100_000,
    secrets: bool = True,
    changes: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """Run a gateway, without keys, in front of replicas.

    Args:
        folder: an empty one, for everything that it reads and writes.
        replicas: their addresses.
        ports: the replicas' ports for gRPC and REST.
        rate: requests a second for each key.
        secrets: whether there is a certificate.
        changes: text of nginx.conf, and what stands there instead.
    """
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    tls_port, grpc_port, rest_port = free_ports(3)
    for name in ("run", "bin", "hosts"):
        (folder / name).mkdir()
    (folder / "bin" / "getent").write_text(_GETENT.format(hosts=folder / "hosts"))
    (folder / "bin" / "getent").chmod(0o755)
    hosts(folder, "serving", replicas)
    (folder / "secrets").mkdir(mode=0o700)
    (folder / "secrets" / "gateway").mkdir()
    if secrets:
        with secrets_in(folder):
            certificates.make()
    for name in ("gateway", "serving"):
        shutil.copytree(ROOT / "deploy" / name, folder / name)
    shutil.copy(ROOT / "deploy" / "server" / "models.config", folder)
    shutil.copy(START, folder / "gateway" / "start.sh")
    _replace(
        folder / "gateway" / "start.sh",
        {
            "/run/gateway": str(folder / "run"),
            "/config/": f"{folder}/",
            "/etc/gateway": str(folder / "secrets" / "gateway"),
            "grpc:8500": f"grpc:{ports[0]}",
            "rest:8501": f"rest:{ports[1]}",
            "}:8500": f"}}:{grpc_port}",
            "}:8501": f"}}:{rest_port}",
        },
    )
    _replace(
        folder / "gateway" / "nginx.conf",
        {
            "/run/gateway": str(folder / "run"),
            "8443": str(tls_port),
            "listen ": "listen 127.0.0.1:",
            # Started by root, nginx would give the folder's files up.
            "events {": "user root;\nevents {" if os.geteuid() == 0 else "events {",
            **(changes or {}),
        },
    )
    for name in ("routes.conf", "grpc.conf", "rest.conf"):
        _replace(folder / "gateway" / name, {"/run/gateway": str(folder / "run")})
    page = {"/usr/share/page": str(ROOT / "deploy" / "page")}
    _replace(folder / "gateway" / "routes.conf", page)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "KEY_RATE": str(rate),
        "LOCAL_ADDRESS": "127.0.0.1",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [folder / "gateway" / "start.sh"], env=environment, stdout=log, stderr=log
        )
    gateway = Gateway(process, folder, tls_port, grpc_port, rest_port)
    try:
        until(lambda: _is_up(gateway))
        yield gateway
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def hosts(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """What `name` means to the gateway in `folder`."""
    text = "".join(f"{address}\n" for address in addresses)
    secret_files.replace(folder / "hosts" / name, text.encode())


@contextlib.contextmanager
def secrets_in(folder: Path) -> Iterator[None]:
    """Let `deploy.keys` and `deploy.certificates` work on this folder's secrets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPLOY_SECRETS", str(folder / "secrets"))
        yield


def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes soon, and fail if it does not."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def _is_up(gateway: Gateway) -> bool:
    assert gateway.process.poll() is None, gateway.log
    try:
        return gateway.ask("GET", "/healthz", local=True).status == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def _command(process: str) -> str:
    try:
        return Path("/proc", process, "cmdline").read_text()
    except OSError:  # it has just ended
        return ""


def _replace(path: Path, changes: Mapping[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, f"{path.name} does not hold {old!r}"
        text = text.replace(old, new)
    path.write_text(text)
