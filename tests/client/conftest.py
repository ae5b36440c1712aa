"""Scripted servers, with and without TLS: what a server might say, without one.

And the four clients, called alike.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from tests.client.memory import Clock
from tfserving_client import (
    AsyncDigitClient,
    AsyncServingClient,
    Classification,
    DigitClient,
    Label,
    Metadata,
    Policy,
    Prediction,
    ServingClient,
    Tls,
    VersionStatus,
)
from tfserving_client.call.target import Target
from tfserving_client.grpc import transport

Result = TypeVar("Result")
IMAGES = np.arange(2 * 784, dtype=np.int64).reshape(2, 28, 28) % 256
# Probabilities of a nine and a zero.
ROWS = [[0.0] * 9 + [1.0], [0.75] + [0.0] * 8 + [0.25]]
ONCE = Policy(attempts=1, timeout=30)
PACKED_IS_MISSING = b'{"error": "Serving signature name: \\"packed\\" not found in signature def"}'


# Modules that look at the time.
_DECIDING = [
    "call.caller", "call.coalescing", "call.endpoints", "digits.verbs", "serving.asking",
    "serving.predicting", "serving.verbs",
]  # fmt: skip


class Awaited:
    """A client of coroutines on an event loop of its own, called as if it were one of threads."""

    def __init__(self, url: str, *, kind: Any = AsyncDigitClient, **arguments: Any) -> None:
        self.client: AsyncDigitClient = kind(url, **arguments)
        self._stop = asyncio.Event()
        started = threading.Event()

        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            started.set()
            await self._stop.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()))
        self._thread.start()
        started.wait()

    def do(self, call: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result()

    def classify(self, images: Any, **options: Any) -> Classification:
        return self.do(self.client.classify(images, **options))

    def predict(self, inputs: Any, **options: Any) -> Prediction:
        return self.do(self.client.predict(inputs, **options))

    def predict_many(self, items: Any, **options: Any) -> Iterator[Any]:
        """Each answer as soon as it is there."""
        answers = self.client.predict_many(items, **options)
        while True:
            try:
                yield self.do(anext(answers))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def classify_examples(self, examples: Any, **options: Any) -> list[list[Label]]:
        return self.do(self.client.classify_examples(examples, **options))

    def regress_examples(self, examples: Any, **options: Any) -> NDArray[np.float32]:
        return self.do(self.client.regress_examples(examples, **options))

    def status(self, **options: Any) -> tuple[VersionStatus, ...]:
        return self.do(self.client.status(**options))

    def metadata(self, **options: Any) -> Metadata:
        return self.do(self.client.metadata(**options))

    def ready(self, **options: Any) -> bool:
        return self.do(self.client.ready(**options))

    def wait_until_ready(self, **options: Any) -> None:
        self.do(self.client.wait_until_ready(**options))

    def close(self) -> None:
        self.do(self.client.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


Digits = DigitClient | Awaited
Shell = Callable[..., Digits]
Serving = Callable[..., ServingClient | Awaited]
Start = Callable[..., contextlib.AbstractContextManager[Any]]


@pytest.fixture(params=[DigitClient, Awaited], ids=["threads", "asyncio"])
def shell(request: pytest.FixtureRequest) -> Shell:
    """Makes a client of either kind."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["threads", "asyncio"])
def serving(request: pytest.FixtureRequest) -> Serving:
    """Makes a client of either kind, for any model."""

    def make(url: str, model: str = "mnist", **arguments: Any) -> ServingClient | Awaited:
        if request.param == "threads":
            return ServingClient(url, model=model, **arguments)
        return Awaited(url, kind=AsyncServingClient, model=model, **arguments)

    return make


@pytest.fixture(params=["grpc", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(scheme: str) -> Start:
    """Starts scripted servers of either protocol."""
    return serve_grpc if scheme == "grpc" else serve_http


@pytest.fixture
def server(start: Start) -> Iterator[Server]:
    """A scripted server of either protocol."""
    with start() as scripted:
        yield scripted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in _DECIDING:
        monkeypatch.setattr(f"tfserving_client.{module}.time", made)
    return made


class ScriptedGrpc:
    """Answers every method with `behaviour(method, request bytes, context)`."""

    def __init__(self, url: str = "") -> None:
        self.behaviour: Callable[[str, bytes, grpc.ServicerContext], bytes] = lambda *_: b""
        self.calls: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.port, self._url = 0, url

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append((details.method, request))
            self.headers.append(dict(context.invocation_metadata()))
            return self.behaviour(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    @property
    def url(self) -> str:
        return self._url or f"grpc://127.0.0.1:{self.port}"

    def say(self, answer: bytes) -> None:
        self.behaviour = lambda *_: answer

    def see(self, *, pause: Callable[[], object] = lambda: None) -> None:
        """Answer each image with the digit that is its first pixel."""

        def look(_: str, request: bytes, __: grpc.ServicerContext) -> bytes:
            pause()
            tensor = predict_pb2.PredictRequest.FromString(request).inputs["images"]
            return grpc_prediction(bytes(byte % 10 for byte in tensor.tensor_content[::784]))

        self.behaviour = look


def grpc_status(state: int, error: str = "") -> bytes:
    """An answer about version 5."""
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=5, state=state).status.error_message = error
    return bytes(response.SerializeToString())


def grpc_prediction(digits: bytes) -> bytes:
    response = predict_pb2.PredictResponse()
    rows = response.outputs["probabilities"]
    rows.dtype = 1
    rows.tensor_shape.dim.add(size=len(digits))
    rows.tensor_shape.dim.add(size=10)
    rows.float_val.extend(np.eye(10)[list(digits)].ravel())
    response.outputs["digits"].dtype = 9
    response.outputs["digits"].tensor_shape.dim.add(size=len(digits))
    response.outputs["digits"].int64_val.extend(digits)
    return bytes(response.SerializeToString())


@contextlib.contextmanager
def serve_grpc(
    port: int = 0, *, path: str = "", tls: grpc.ServerCredentials = None, threads: int = 20
) -> Iterator[ScriptedGrpc]:
    scripted = ScriptedGrpc(f"unix://{path}" if path else "")
    address = f"unix:{path}" if path else f"127.0.0.1:{port}"
    sizes = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    server = grpc.server(futures.ThreadPoolExecutor(threads), (scripted,), options=sizes)
    if tls is None:
        scripted.port = server.add_insecure_port(address)
    else:
        scripted.port = server.add_secure_port(address, tls)
    server.start()
    try:
        yield scripted
    finally:
        server.stop(None).wait()


@pytest.fixture
def grpc_server() -> Iterator[ScriptedGrpc]:
    with serve_grpc() as scripted:
        yield scripted


class ScriptedHttp:
    """Answers every request with `behaviour(verb and path, body)`, and remembers it."""

    def __init__(self, url: str = "") -> None:
        self.status, self.body = 200, b"{}"
        self.behaviour: Callable[[str, bytes], tuple[int, bytes]]
        self.behaviour = lambda *_: (self.status, self.body)
        self.pause = 0.0  # seconds between the bytes of the body
        self.calls: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.port, self._url = 0, url

    @property
    def url(self) -> str:
        return self._url or f"http://127.0.0.1:{self.port}"

    def say(self, answer: bytes, status: int = 200) -> None:
        self.body, self.status = answer, status

    def see(self, *, pause: Callable[[], object] = lambda: None) -> None:
        """Answer each image with the digit that is its first pixel."""

        def look(_: str, request: bytes) -> tuple[int, bytes]:
            pause()
            images = json.loads(request)["inputs"]
            digits = [base64.b64decode(image["b64"])[0] % 10 for image in images]
            outputs = {"probabilities": np.eye(10)[digits].tolist(), "digits": digits}
            return 200, json.dumps({"outputs": outputs}).encode()

        self.behaviour = look


Server = ScriptedGrpc | ScriptedHttp


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        if self.address_family == socket.AF_UNIX:
            self.socket.bind(self.server_address)
        else:
            super().server_bind()


@contextlib.contextmanager
def serve_http(
    port: int = 0, *, path: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[ScriptedHttp]:
    scripted = ScriptedHttp(f"http+unix://{path}" if path else "")
    open_ones: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            if tls:
                self.request = tls.wrap_socket(self.request, server_side=True)
            open_ones.add(self.request)
            super().setup()

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()
            open_ones.discard(self.request)
            if tls:
                self.request.close()

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client gives up
                super().handle()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.calls.append((self.command, self.path, body))
            scripted.headers.append({name.lower(): text for name, text in self.headers.items()})
            status, answer = scripted.behaviour(f"{self.command} {self.path}", body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if not scripted.pause:
                self.wfile.write(answer)
                return
            for i in range(len(answer)):
                self.wfile.write(answer[i : i + 1])
                time.sleep(scripted.pause)

        do_GET = do_POST = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    class Listening(_HttpServer):
        address_family = socket.AF_UNIX if path else socket.AF_INET

        def handle_error(self, *_: object) -> None:
            """A handshake that fails is the client's to tell."""

    server = Listening(path or ("127.0.0.1", port), Handler)  # type: ignore[arg-type]
    scripted.port = 0 if path else server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connected in tuple(open_ones):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


@pytest.fixture
def http_server() -> Iterator[ScriptedHttp]:
    with serve_http() as scripted:
        yield scripted


@pytest.fixture
def raw_server() -> Iterator[Callable[[bytes | None], int]]:
    """Starts a server that reads a little, sends the given bytes and hangs up; None: never answers.

    Returns its port.
    """
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(talk(_reply(answer)))


Talk = Callable[[socket.socket], None]


def _reply(answer: bytes | None) -> Talk:
    def talk(connected: socket.socket) -> None:
        if answer is not None:
            connected.recv(1 << 16)
            connected.sendall(answer)
            connected.shutdown(socket.SHUT_WR)
        while connected.recv(1 << 16):  # unread bytes would reset it
            pass

    return talk


@contextlib.contextmanager
def talk(with_: Talk) -> Iterator[int]:
    """A TCP server that does `with_` each connection, and closes it; yields its port."""
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(connected: socket.socket) -> None:
        with connected, contextlib.suppress(OSError):
            with_(connected)

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                open_ones.append(listener.accept()[0])
                threads.append(threading.Thread(target=serve, args=open_ones[-1:]))
                threads[-1].start()

    accepting = threading.Thread(target=run)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for connected in open_ones:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def with_addresses(monkeypatch: pytest.MonkeyPatch, host: str, *ports: int) -> None:
    """Let a name have several addresses, which are ports of this machine."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    look_up: Any = socket.getaddrinfo

    def answer(asked: str, *arguments: Any, **options: Any) -> Any:
        return found if asked == host else look_up(asked, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    # gRPC looks names up by itself; this is its way to write several addresses, and their name.
    together = ",".join(f"127.0.0.1:{port}" for port in ports)
    monkeypatch.setattr(Target, "address", f"ipv4:{together}")
    options = [*transport._OPTIONS, ("grpc.ssl_target_name_override", host)]
    monkeypatch.setattr(transport, "_OPTIONS", options)


@dataclass(frozen=True)
class Pems:
    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Pems:
    """Two authorities, each with the certificate of a server and of a client that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pems = Pems(tmp_path_factory.mktemp("pems"))
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("ours", "theirs"):
        key = ("-keyout", pems[f"{authority}-key"], "-out", pems[authority])
        # Python takes no authority without it, since 3.13.
        usage = ("-addext", "keyUsage=critical,keyCertSign")
        _openssl("req", "-x509", *new_key, *key, *usage, "-subj", f"/CN={authority}", "-days", 2)
        for who in ("server", "client"):
            name = f"{authority}-{who}"
            extensions = pems.folder / "extensions"
            extensions.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid")
            key = ("-keyout", pems[f"{name}-key"], "-out", pems[f"{name}-request"])
            _openssl("req", *new_key, *key, "-subj", f"/CN={name}")
            signed = ("-CA", pems[authority], "-CAkey", pems[f"{authority}-key"], "-CAcreateserial")
            files = ("-in", pems[f"{name}-request"], "-out", pems[name], "-extfile", extensions)
            _openssl("x509", "-req", *files, *signed, "-days", 2)
    _openssl("pkey", "-in", pems["ours-key"], "-out", pems["locked-key"], "-aes128",
             "-passout", "pass:x")  # fmt: skip
    pems["garbage"].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    pems["empty"].write_text("")
    return pems


Serve = Callable[[bool], AbstractContextManager[tuple[Server, str]]]


@pytest.fixture
def serve(scheme: str, pems: Pems) -> Serve:
    """Starts a server with a certificate of ours; True: which asks for one, too."""

    @contextlib.contextmanager
    def serve(mutual: bool) -> Iterator[tuple[Server, str]]:
        names = ("ours-server-key", "ours-server", "ours")
        key, certificate, ca = (pems[name].read_bytes() for name in names)
        if scheme == "grpc":
            tls = grpc.ssl_server_credentials([(key, certificate)], ca if mutual else None, mutual)
            with serve_grpc(tls=tls) as server:
                yield server, f"grpcs://127.0.0.1:{server.port}"
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pems["ours-server"], pems["ours-server-key"])
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(pems["ours"])
        with serve_http(tls=context) as http:
            yield http, f"https://127.0.0.1:{http.port}"

    return serve


def mine(pems: Pems, whose: str = "ours") -> Tls:
    return Tls(pems["ours"], pems[f"{whose}-client"], pems[f"{whose}-client-key"])
