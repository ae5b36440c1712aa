"""Proxies, by one rule over gRPC and REST. The one here takes every host for this machine."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import numpy as np
import pytest

from tests.client.conftest import (
    ONCE,
    Pems,
    ScriptedHttp,
    Serve,
    Server,
    Shell,
    talk,
    with_addresses,
)
from tfserving_client import InvalidInput, Policy, Tls, Unreachable
from tfserving_client.call.proxy import proxy_for
from tfserving_client.call.target import parse

IMAGE = np.full((28, 28), 5, np.uint8)


def _proxy(to: int, answers: list[bytes], *, status: int = 200) -> Callable[[socket.socket], None]:
    """A proxy for which every host is the server at one port of this machine."""

    def serve(connected: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connected.recv(1)
        answers.append(request)
        connected.sendall(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
        if status != 200:
            return
        with socket.create_connection(("127.0.0.1", to)) as onward:
            _copy_both_ways(connected, onward)

    return serve


def _copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_reached_by_a_proxy(
    shell: Shell, server: Server, closed_port: int, monkeypatch: pytest.MonkeyPatch,
    name: str, host: str,
) -> None:  # fmt: skip
    server.see()
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    with shell(server.url.replace("127.0.0.1", host), policy=ONCE) as digits:
        assert digits.classify(IMAGE).digits.tolist() == [5]


@pytest.mark.usefixtures("_no_proxies")
def test_other_hosts_are_reached_by_the_proxy_that_is_named(
    shell: Shell, server: Server, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.see()
    requests: list[bytes] = []
    with talk(_proxy(server.port, requests)) as port:
        monkeypatch.setenv("http_proxy", f"http://me:it%20is@127.0.0.1:{port}")
        with shell(f"{scheme}://far.example:99", policy=ONCE) as digits:
            assert digits.classify(IMAGE).digits.tolist() == [5]
    assert requests[0].startswith(b"CONNECT far.example:99 HTTP/1.")
    assert b"proxy-authorization: basic bwu6axqgaxm=" in requests[0].lower()  # me:it is


@pytest.mark.usefixtures("_no_proxies")
def test_tls_goes_through_a_proxy_to_the_servers_own_name(
    shell: Shell, serve: Serve, pems: Pems, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[bytes] = []
    with serve(False) as (server, url), talk(_proxy(server.port, requests)) as port:
        far = url.replace("127.0.0.1", "far.example")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with shell(far, tls=Tls(pems["ours"]), policy=ONCE) as digits:
            with pytest.raises(Unreachable, match="certificate is for another name than the URL"):
                digits.status()
    assert requests


@pytest.mark.usefixtures("_no_proxies")
def test_a_proxy_s_address_that_is_silent_does_not_eat_the_deadline(
    shell: Shell,
    http_server: ScriptedHttp,
    raw_server: Callable[[bytes | None], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    http_server.see()
    requests: list[bytes] = []
    with talk(_proxy(http_server.port, requests)) as port:
        monkeypatch.setenv("http_proxy", "http://proxy")
        with shell("http://far.example", policy=Policy(attempts=1, timeout=20)) as digits:
            with_addresses(monkeypatch, "proxy", raw_server(None), port)
            assert digits.classify(IMAGE).digits.tolist() == [5]
    assert requests


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_proxy_that_lets_nothing_through_is_named(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch, closed_port: int, is_there: bool
) -> None:
    with talk(_proxy(0, [], status=403)) as port:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{port if is_there else closed_port}")
        with shell(f"{scheme}://far.example", policy=ONCE) as digits:
            with pytest.raises(Unreachable) as failure:
                digits.status()
    said = str(failure.value)
    assert said.startswith("the proxy that http_proxy names did not let the call through; unset")


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("exempt", ["far.invalid", ".invalid", "a,*", "x, FAR.invalid"])
def test_what_no_proxy_lists_is_reached_directly(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch, closed_port: int, exempt: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("no_proxy", exempt)
    with shell(f"{scheme}://far.invalid", policy=ONCE) as digits:
        with pytest.raises(Unreachable, match="the host name is not known here"):
            digits.status()


@pytest.mark.usefixtures("_no_proxies")
def test_a_proxy_of_another_kind_is_refused_and_its_password_not_shown(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://me:secret@127.0.0.1:1")
    with shell(f"{scheme}://far.example", policy=ONCE) as digits:
        with pytest.raises(
            InvalidInput, match=r"^http_proxy does not name a proxy as http://host:port$"
        ):
            digits.status()


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_by_proxy"),
    [
        ("http://10.1.2.3", "", True),
        ("http://10.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3", False),
        ("http://10.1.2.3", "11.0.0.0/8, 0.1.2.3, name", True),
        ("http://[fd00::1]", "fd00::/8", False),
        ("http://a.example", "example", False),
        ("http://a.example", "*.example", False),
        ("http://a.example", "b.example,ample", True),
        ("http://a.example", ",", True),
        ("http://127.8.9.10", "", False),
        ("http://[::1]", "", False),
        ("http://a.localhost", "", False),
        ("http+unix:///run/socket", "", False),
        ("https://a.example", "", False),  # its variable is another
    ],
)
def test_the_rule(url: str, no_proxy: str, is_by_proxy: bool) -> None:
    environment = {"http_proxy": "http://proxy:3128", "NO_PROXY": no_proxy}
    found = proxy_for(parse(url)[0], environment)
    assert (found is not None) is is_by_proxy


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("grpc://a", "grpc_proxy"), ("grpcs://a", "grpc_proxy"), ("dns:///a", "grpc_proxy"),
        ("http://a", "HTTP_PROXY"), ("https://a", "https_proxy"),
    ],
)  # fmt: skip
def test_which_variable(url: str, variable: str) -> None:
    names = ("grpc_proxy", "HTTP_PROXY", "https_proxy")
    environment = {name: f"http://{name[:4]}:1" for name in names}
    found = proxy_for(parse(url)[0], environment)
    assert found is not None
    assert (found.variable, found.host) == (variable, variable[:4])


def test_a_header_of_a_web_request_is_no_proxy() -> None:
    """In CGI a client's header `Proxy` becomes HTTP_PROXY."""
    environment = {"HTTP_PROXY": "http://proxy:1", "REQUEST_METHOD": "GET"}
    assert proxy_for(parse("http://a")[0], environment) is None
