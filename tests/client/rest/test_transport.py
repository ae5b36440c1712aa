"""REST over bad networks and odd servers, with threads and with asyncio."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from tests.client.conftest import Shell, Talk, serve_http, talk
from tfserving_client import (
    BadResponse,
    CallError,
    DeadlineExceeded,
    DigitClient,
    Policy,
    Rejected,
    State,
    Unreachable,
)

ONCE = Policy(attempts=1, timeout=30)
STATUS = (
    b'{"model_version_status": [{"version": "5", "state": "AVAILABLE",'
    b' "status": {"error_code": "OK", "error_message": ""}}]}'
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(STATUS) + STATUS


def _read_request(connected: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connected.recv(1 << 16)
        if not piece:
            return b""
        request += piece
    return request


def _says(*pieces: bytes, pause: float = 0.0) -> Talk:
    """One request, one answer, end of connection."""

    def say(connected: socket.socket) -> None:
        _read_request(connected)
        for piece in pieces:
            connected.sendall(piece)
            time.sleep(pause)

    return say


@pytest.mark.parametrize(
    "pieces",
    [
        [OK],
        [OK[:30], OK[30:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
         % (len(STATUS), STATUS)],
        [b"HTTP/1.0 200 OK\r\n\r\n", STATUS],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        [OK.replace(b"\r\n", b"\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(300)), 1)],
    ],
    ids=["whole", "pieces", "chunked", "HTTP/1.0", "interim", "many headers"],
)  # fmt: skip
def test_every_way_to_answer(shell: Shell, pieces: list[bytes]) -> None:
    with talk(_says(*pieces)) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        for _ in range(2):
            assert digits.status()[0].state is State.AVAILABLE


def test_an_answer_cut_anywhere_is_told_and_never_taken_for_one(shell: Shell) -> None:
    cuts = iter(range(len(OK)))
    with talk(lambda connected: _says(OK[: next(cuts)])(connected)) as port:
        with shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
            for _ in range(len(OK)):
                with pytest.raises((Unreachable, BadResponse)):
                    digits.status()
    assert next(cuts, None) is None


def test_an_answer_cut_where_only_its_end_tells_its_length_is_unreadable(shell: Shell) -> None:
    old = b"HTTP/1.0 200 OK\r\n\r\n"
    with talk(_says(old, STATUS[:-1])) as port:
        with shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
            with pytest.raises(BadResponse, match="unreadable"):
                digits.status()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", BadResponse, "not HTTP"),
        (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", BadResponse, "HTTP/2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", BadResponse, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BadResponse, "unreadable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00{", BadResponse, "unreadable"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", BadResponse, "HTTP 204"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /v1\r\nContent-Length: 0\r\n\r\n", BadResponse, "301"),
        (b"HTTP/1.1 307 Moved\r\nLocation: /v1\r\nContent-Length: 0\r\n\r\n", BadResponse, "307"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 13\r\n\r\n<html>a shop<", BadResponse, "a shop"),
        (b"HTTP/1.1 502 No\r\nContent-Length: 13\r\n\r\n<html>a proxy", Unreachable, "a proxy"),
        (
            b"HTTP/1.1 504 No\r\nContent-Length: 13\r\n\r\n<html>a proxy",
            DeadlineExceeded,
            "a proxy",
        ),
        (b"", Unreachable, "hung up"),
    ],
)
def test_other_programs_and_proxies_in_between(
    shell: Shell, answer: bytes, kind: type[CallError], words: str
) -> None:
    connections: list[object] = []

    def greet(connected: socket.socket) -> None:
        connections.append(connected)
        _read_request(connected)
        connected.sendall(answer)
        if answer:  # a server that greets waits for a word, for ever
            connected.recv(1)

    with talk(greet) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        with pytest.raises(kind) as failure:
            digits.status()
    assert words in failure.value.server_text
    assert len(connections) == 1  # redirects are not followed


@pytest.mark.parametrize("dripping", [OK[:20], OK[:60]], ids=["headers", "body"])
def test_what_drips_ends_at_the_deadline(shell: Shell, dripping: bytes) -> None:
    drops = [dripping[:10], *(bytes([byte]) for byte in dripping[10:])]
    with talk(_says(*drops, pause=1)) as port:
        with shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                digits.status(timeout=0.2)
            assert time.monotonic() - started < 9  # it drips for 11 s or more


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_that_comes_before_the_request_is_read_is_the_answer(
    shell: Shell, status: int
) -> None:
    body = b'{"error": "too much"}'
    refusal = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    images = [b"\x89PNG\r\n\x1a\n" + bytes(1 << 19)] * 20
    with talk(_says(refusal)) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        for _ in range(20):
            with pytest.raises(Rejected, match="too much"):
                digits.classify(images)


@pytest.mark.parametrize("goodbye", [b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_a_kept_connection_that_the_server_closed_meanwhile_is_replaced_silently(
    shell: Shell, goodbye: bytes
) -> None:
    closed = threading.Semaphore(0)

    def leave(connected: socket.socket) -> None:
        _says(OK, goodbye)(connected)
        connected.shutdown(socket.SHUT_WR)
        closed.release()
        connected.recv(1)

    with talk(leave) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        for _ in range(5):
            assert digits.status()[0].version == 5
            closed.acquire()


def test_a_kept_connection_that_the_server_closes_in_mid_call_is_replaced_silently(
    shell: Shell,
) -> None:
    def leave(connected: socket.socket) -> None:
        _says(OK)(connected)
        _read_request(connected)

    with talk(leave) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        for _ in range(5):
            assert digits.status()[0].version == 5


def test_a_connection_is_kept(shell: Shell) -> None:
    connections: list[object] = []

    def answer(connected: socket.socket) -> None:
        connections.append(connected)
        while _read_request(connected):
            connected.sendall(OK)

    with talk(answer) as port, shell(f"http://127.0.0.1:{port}", policy=ONCE) as digits:
        for _ in range(5):
            digits.status()
    assert len(connections) == 1


def test_a_connection_that_died_without_a_word_costs_one_attempt(shell: Shell) -> None:
    connections: list[object] = []

    def answer(connected: socket.socket) -> None:
        connections.append(connected)
        _read_request(connected)
        connected.sendall(OK)
        while connected.recv(1 << 16):  # from now on it takes everything and says nothing
            if len(connections) > 1:
                connected.sendall(OK)

    policy = Policy(attempts=2, attempt_timeout=6, timeout=60)
    with talk(answer) as port, shell(f"http://127.0.0.1:{port}", policy=policy) as digits:
        for _ in range(3):
            assert digits.status()[0].version == 5
    assert len(connections) == 2


@pytest.fixture
def black_holes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """A name whose addresses take no connection: their queues are full."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for _ in range(20):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            addresses.append(listener.getsockname())
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(addresses[-1])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        yield addresses


def test_all_addresses_of_a_name_share_the_deadline(
    shell: Shell, black_holes: list[tuple[str, int]]
) -> None:
    with shell(f"http://name:{black_holes[0][1]}", policy=ONCE) as digits:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            digits.status(timeout=1)
        assert time.monotonic() - started < 15  # each its own: 20


def test_the_next_address_of_a_name_is_tried(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    with talk(_says(OK)) as port:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number))
            for number in (closed_port, port)
        ]
        with shell("http://name", policy=ONCE) as digits:
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            assert digits.status()[0].version == 5


@pytest.mark.parametrize(
    "url", ["http://no-such-name.invalid", "http+unix:///no/such", "http+unix:///" + "x" * 200]
)
def test_what_does_not_exist_is_unreachable(shell: Shell, url: str) -> None:
    with shell(url, policy=ONCE) as digits:
        with pytest.raises(Unreachable):
            digits.status()


def test_more_callers_than_kept_connections(shell: Shell) -> None:
    with serve_http() as server, shell(server.url, policy=ONCE) as digits:
        server.say(STATUS)
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: digits.status()[0].version, range(200)))
    assert answers == [5] * 200


def test_a_peer_that_the_system_gave_up_is_unreachable_and_not_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python calls it a TimeoutError, though the call's time may not be up."""
    monkeypatch.setattr(socket.socket, "connect_ex", Mock(return_value=errno.ETIMEDOUT))
    with DigitClient("http://localhost", policy=Policy(attempts=1)) as digits:
        with pytest.raises(Unreachable, match="the server stopped answering") as failure:
            digits.status()
        assert "Connection timed out" in failure.value.server_text
