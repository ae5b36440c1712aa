"""Scripted servers: what a server might say, without one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest


class ScriptedGrpc:
    """Answers every method with `behaviour(method, request bytes, context)`."""

    def __init__(self) -> None:
        self.behaviour: Callable[[str, bytes, grpc.ServicerContext], bytes] = lambda *_: b""
        self.calls: list[tuple[str, bytes]] = []
        self.port = 0

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append((details.method, request))
            return self.behaviour(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"


@pytest.fixture
def grpc_server() -> Iterator[ScriptedGrpc]:
    scripted = ScriptedGrpc()
    server = grpc.server(futures.ThreadPoolExecutor(4), (scripted,))
    scripted.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield scripted
    server.stop(None).wait()


class ScriptedHttp:
    """Answers every request with `status` and `body`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.pause = 0.0  # seconds between the bytes of the body
        self.calls: list[tuple[str, str, bytes]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def http_server() -> Iterator[ScriptedHttp]:
    scripted = ScriptedHttp()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.calls.append((self.command, self.path, body))
            self.send_response(scripted.status)
            self.send_header("Content-Length", str(len(scripted.body)))
            self.end_headers()
            if not scripted.pause:
                self.wfile.write(scripted.body)
                return
            with contextlib.suppress(OSError):  # the client gives up
                for i in range(len(scripted.body)):
                    self.wfile.write(scripted.body[i : i + 1])
                    time.sleep(scripted.pause)

        do_GET = do_POST = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scripted.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield scripted
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def raw_server() -> Iterator[Callable[[bytes | None], int]]:
    """Starts a server that reads a little, sends the given bytes and hangs up; None: never answers.

    Returns its port.
    """
    with contextlib.ExitStack() as stack:

        def start(answer: bytes | None) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            held: list[socket.socket] = []

            def run() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        if answer is None:
                            held.append(connection)
                            continue
                        with connection:
                            connection.recv(1 << 16)
                            connection.sendall(answer)
                            connection.shutdown(socket.SHUT_WR)
                            while connection.recv(1 << 16):  # unread bytes would reset it
                                pass

            thread = threading.Thread(target=run)
            thread.start()

            def stop() -> None:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
                for connection in held:
                    connection.close()

            stack.callback(stop)
            return int(listener.getsockname()[1])

        yield start


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
