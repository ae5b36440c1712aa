"""A server that answers everything and remembers what it was asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc


@dataclass
class Recorder:
    """What was asked: method and path over HTTP, the method over gRPC; headers of each."""

    address: str
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def saw(self, what: str, headers: dict[str, str]) -> None:
        """Remember it."""
        self.asked.append(what)
        self.headers.append(headers)


@contextlib.contextmanager
def recording(address: str, ports: tuple[int, int]) -> Iterator[Recorder]:
    """Answer on both ports: over HTTP with the address, over gRPC with the request."""
    recorder = Recorder(address)
    unlimited = [("grpc.max_receive_message_length", -1)]  # as the real one
    server = grpc.server(ThreadPoolExecutor(8), [_Calls(recorder)], options=unlimited)
    server.add_insecure_port(f"{address}:{ports[0]}")
    server.start()
    handler = type("Handler", (_Requests,), {"recorder": recorder})
    with ThreadingHTTPServer((address, ports[1]), handler) as rest:
        thread = Thread(target=rest.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield recorder
        finally:
            rest.shutdown()
            thread.join()
            server.stop(None).wait()


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC ships no types
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def service(self, details: Any) -> Any:
        """A handler that echoes."""

        def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._recorder.saw(details.method, dict(context.invocation_metadata()))
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


class _Requests(BaseHTTPRequestHandler):
    recorder: Recorder
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.recorder.saw(
            f"{self.command} {self.path}",
            {name.lower(): value for name, value in self.headers.items()},
        )
        body = self.recorder.address.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 (http.server's names)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""
