"""Which address, and which server, is connected to while another is silent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import Pems, ScriptedHttp, Serve, Server, Shell, with_addresses
from tfserving_client import DeadlineExceeded, Policy, Tls, Unreachable

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
    with shell("http://name", policy=Policy(attempts=1, timeout=20)) as digits:
        with_addresses(monkeypatch, "name", black_hole, http_server.port)
        assert digits.classify(IMAGE).digits.tolist() == [5]
    assert [verb for verb, *_ in http_server.calls] == ["POST"]


def test_an_address_that_is_silent_in_tls_does_not_eat_the_deadline(
    shell: Shell,
    serve: Serve,
    pems: Pems,
    raw_server: Callable[[bytes | None], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the connection, and never shakes hands."""
    with serve(False) as (server, url):
        server.see()
        policy = Policy(attempts=1, timeout=20)
        with shell(url, tls=Tls(pems["ours"]), policy=policy) as digits:
            with_addresses(monkeypatch, "127.0.0.1", raw_server(None), server.port)
            assert digits.classify(IMAGE).digits.tolist() == [5]


def test_all_addresses_are_silent_in_tls(
    shell: Shell,
    raw_server: Callable[[bytes | None], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with shell("https://name", policy=Policy(attempts=1, timeout=0.6)) as digits:
        with_addresses(monkeypatch, "name", raw_server(None), raw_server(None))
        with pytest.raises(DeadlineExceeded) as failure:
            digits.classify(IMAGE)
    assert str(failure.value).startswith(
        "the host takes the connection, but does not answer to TLS; is the port right, and does it"
    )


@pytest.mark.parametrize("order", [1, -1])
def test_what_tls_says_at_one_address_goes_before_the_refusal_of_another(
    shell: Shell,
    http_server: ScriptedHttp,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    order: int,
) -> None:
    with shell("https://name", policy=Policy(attempts=1, timeout=20)) as digits:
        with_addresses(monkeypatch, "name", *(http_server.port, closed_port)[::order])
        with pytest.raises(Unreachable, match="this port speaks plain HTTP, without TLS"):
            digits.classify(IMAGE)


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
