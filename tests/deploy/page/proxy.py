"""A small gateway before the server: asks for a key, refuses, closes."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from deploy.runner import free_ports


class Call(NamedTuple):
    """What passed: the path, and the image asked about; None if there was no body.

    An image is 28 rows, or a picture's file as {"b64": …}; of a form it is what is asked.
    """

    path: str
    image: Any


class Proxy:
    """Forwards every request to the server at `inside`, unless told otherwise."""

    def __init__(self, inside: str) -> None:
        self.inside = urlsplit(inside).netloc
        self.key = ""  # without it models are refused with 401
        self.lost = ""  # the path whose answer does not arrive
        self.refusal: tuple[int, dict[str, str]] | None = None  # of predictions, with headers
        self.answer: Any = None  # to predictions, in place of the server's
        self.passed: list[Call] = []
        self.refused = 0
        self.most_at_once = 0  # of questions
        self._now = 0
        self._lock = threading.Lock()
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}/"

    @contextlib.contextmanager
    def open(self) -> Iterator[Proxy]:
        """Let callers in; afterwards connections are refused."""
        server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def images(self) -> list[Any]:
        """The images that passed, the newest last."""
        return [call.image for call in self.passed if call.image]

    def versions(self) -> list[str]:
        """The versions asked about them, the newest last."""
        paths = [call.path for call in self.passed if call.image]
        return [path.split("/versions/")[1].split(":")[0] for path in paths]

    def _answer(
        self, method: str, path: str, key: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if path.startswith(("/v1/", "/models.json")) and self.key and key != self.key:
            self.refused += 1
            return 401, {}, b'{"error": "no"}'
        if self.refusal and method == "POST":
            self.refused += 1
            return *self.refusal, b'{"error": "no"}'
        if self.answer and method == "POST":
            return 200, {}, json.dumps(self.answer).encode()
        with contextlib.closing(http.client.HTTPConnection(self.inside, timeout=60)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status == 200:
            self.passed.append(Call(path, _image(json.loads(body)) if body else None))
        headers = {name: value for name, value in answer.getheaders() if name in _PASSED_ON}
        return answer.status, headers, text

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass(b"")

            def do_POST(self) -> None:
                self._pass(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass(self, body: bytes) -> None:
                if self.path == proxy.lost:
                    self.close_connection = True
                    return
                key = self.headers.get("x-api-key", "")
                with proxy._counted() if body else contextlib.nullcontext():
                    status, headers, text = proxy._answer(self.command, self.path, key, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def _image(question: Any) -> Any:
    return question["instances"][0] if "instances" in question else question


_PASSED_ON = {
    "Content-Type",
    "Content-Security-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
}
