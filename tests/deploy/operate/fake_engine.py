"""An engine that only answers questions, for what no real one at hand would answer."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def fake_engine(path: Path, answers: Mapping[str, Any]) -> Iterator[str]:
    """Listen on this UNIX socket; gives DOCKER_HOST. `answers` go by path, without the version."""

    class Handler(_Handler):
        def body(self) -> bytes:
            asked = self.path.partition("?")[0].partition("/v1.41")[2] or self.path
            return json.dumps(answers.get(asked, {"ApiVersion": "1.41", "Version": "0"})).encode()

    with _Server(str(path), Handler) as server:
        yield from _served(server, f"unix://{path}")


@contextlib.contextmanager
def json_server(answer: Any) -> Iterator[int]:
    """A server on a loopback port that answers every GET with this."""

    class Handler(_Handler):
        def body(self) -> bytes:
            return json.dumps(answer).encode()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        yield from _served(server, server.server_port)


class _Handler(http.server.BaseHTTPRequestHandler):
    def body(self) -> bytes:
        raise NotImplementedError

    def do_GET(self) -> None:
        body = self.body()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _served(server: socketserver.BaseServer, where: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield where
    finally:
        server.shutdown()
        thread.join()
