"""gRPC over bad networks, with threads and with asyncio."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.client.conftest import Digits, ScriptedGrpc, Shell, talk
from tfserving_client import BadResponse, CallError, Policy, Unreachable
from tfserving_client.grpc import transport as grpc_transport

IMAGE = np.full((28, 28), 5, np.uint8)
ONCE = Policy(attempts=1, timeout=30)


class Proxy:
    """Carries bytes both ways, but of the first `stuck` connections takes them and says nothing."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.connections = self.stuck = 0

    def carry(self, client: socket.socket) -> None:
        self.connections += 1
        ours = self.connections
        with socket.create_connection(("127.0.0.1", self.server)) as server:
            back = threading.Thread(target=self._pump, args=(server, client, ours))
            back.start()
            self._pump(client, server, ours)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, ours: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if ours > self.stuck:
                    sink.sendall(data)


@pytest.fixture
def proxy(grpc_server: ScriptedGrpc) -> Iterator[tuple[Proxy, str]]:
    proxy = Proxy(grpc_server.port)
    with talk(proxy.carry) as port:
        yield proxy, f"grpc://127.0.0.1:{port}"


def test_a_connection_that_died_without_a_word_is_noticed_and_replaced(
    shell: Shell,
    grpc_server: ScriptedGrpc,
    proxy: tuple[Proxy, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("keepalive_time_ms", "keepalive_timeout_ms", "http2.ping_timeout_ms")
    shorter = {f"grpc.{name}": 300 for name in names}
    options = [(name, shorter.get(name, value)) for name, value in grpc_transport._OPTIONS]
    assert shorter.keys() <= dict(options).keys()
    monkeypatch.setattr(grpc_transport, "_OPTIONS", options)
    grpc_server.see()
    with shell(proxy[1], policy=ONCE) as digits:
        assert _until_answered(digits) == [5]
        with pytest.raises(Unreachable):
            _ask_while_stuck(proxy[0], digits)
        assert _until_answered(digits) == [5]
    assert proxy[0].connections >= 2


def _ask_while_stuck(proxy: Proxy, digits: Digits) -> None:
    for _ in range(20):  # on a busy machine gRPC may just have made a new connection
        proxy.stuck = proxy.connections
        digits.classify(IMAGE)


def _until_answered(digits: Digits) -> list[int]:
    deadline = time.monotonic() + 20
    while True:
        try:
            return list(digits.classify(IMAGE).digits)
        except Unreachable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("greeting", "kinds"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", (BadResponse,)),
        (b"SSH-2.0 hello" * 9, (BadResponse,)),
        (b"\x00" * 100, (BadResponse, Unreachable)),
        (b"", (Unreachable,)),
    ],
)
def test_other_programs_are_told(
    shell: Shell, greeting: bytes, kinds: tuple[type[CallError], ...]
) -> None:
    def greet(connected: socket.socket) -> None:
        connected.recv(1 << 16)
        connected.sendall(greeting)

    with talk(greet) as port, shell(f"grpc://127.0.0.1:{port}", policy=ONCE) as digits:
        with pytest.raises(kinds):
            digits.status(timeout=10)


def test_a_name_stands_for_every_address_that_it_has(
    shell: Shell, grpc_server: ScriptedGrpc
) -> None:
    grpc_server.see()
    with shell(f"dns:///localhost:{grpc_server.port}", policy=ONCE) as digits:
        assert digits.classify(IMAGE).digits.tolist() == [5]
