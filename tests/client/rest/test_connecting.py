"""Which address, and which server, is connected to while another is silent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import Pems, ScriptedHttp, Server, Shell
from tfserving_client import Policy, Tls, Unreachable

IMAGE = np.full((28, 28), 5, np.uint8)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """The port of an address that takes no connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_silent_address_does_not_eat_the_deadline(
    shell: Shell, http_server: ScriptedHttp, black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305: the next one is tried after a quarter of a second, and both go on."""
    http_server.see()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        for port in (black_hole, http_server.port)
    ]
    with shell("http://name", policy=Policy(attempts=1, timeout=20)) as digits:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert digits.classify(IMAGE).digits.tolist() == [5]
    assert [verb for verb, *_ in http_server.calls] == ["POST"]


def test_a_silent_server_does_not_eat_the_deadline_of_several(
    shell: Shell, server: Server, black_hole: int
) -> None:
    server.see()
    protocol, _, place = server.url.partition("://")
    url = f"{protocol}://127.0.0.1:{black_hole},{place}"
    policy = Policy(attempts=2, timeout=20)
    with shell(url, policy=policy) as digits:
        for _ in range(2):
            assert digits.classify(IMAGE).digits.tolist() == [5]


@pytest.mark.parametrize("way", ["tls", "proxy"])
def test_a_server_that_is_silent_while_connecting_does_not_eat_the_deadline_of_several(
    shell: Shell,
    pems: Pems,
    raw_server: Callable[[bytes | None], int],
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """It takes the connection, and says nothing to TLS; or the proxy does not."""
    silent = raw_server(None)
    policy = Policy(attempts=2, timeout=600)
    if way == "tls":
        url = f"https://127.0.0.1:{silent},127.0.0.1:{closed_port}"
        options: Any = {"tls": Tls(pems["ours"])}
    else:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent}")
        url, options = "http://one.example,two.example", {}
    with shell(url, policy=policy, **options) as digits:
        with pytest.raises(Unreachable) as failure:
            digits.classify(IMAGE)
    assert failure.value.attempts == 2
