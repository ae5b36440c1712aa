"""What stands before a conversation: which address of a name answers first, and the way there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    MutableSet,
    Sequence,
)
from functools import partial
from itertools import chain, zip_longest
from typing import Any, TypeVar
from urllib.parse import unquote

import h11

from tfserving_client.call.endpoints import NEXT_SERVER
from tfserving_client.call.proxy import Proxy
from tfserving_client.call.target import Target

NEXT_ADDRESS = 0.25  # seconds after which the next address is tried, too: RFC 8305, section 5
TLS_SILENCE = "no answer to TLS in time"
_PIECE = 1 << 16  # bytes of a proxy's answer taken at once
# A peer that vanished without a word is noticed after 4 s.
_VANISHED = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4_000),
)

Address = tuple[socket.AddressFamily, Any]
Opened = TypeVar("Opened")


def places(target: Target, proxy: Proxy | None, flags: int = 0) -> list[Address]:
    """Where the way to a server begins."""
    if target.socket:
        return [(socket.AF_UNIX, target.socket)]
    at = proxy or target
    with naming(proxy):
        return _addresses(at.host, at.port, flags)


async def awaited_places(target: Target, proxy: Proxy | None) -> list[Address]:
    """The same; a name is looked up in a thread."""
    try:
        return places(target, proxy, socket.AI_NUMERICHOST)
    except OSError:
        return await asyncio.to_thread(places, target, proxy)


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    """Those of a name, its families by turns: RFC 8305, section 4."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    first = [(family, address) for family, _, _, _, address in found if family == found[0][0]]
    other = [(family, address) for family, _, _, _, address in found if family != found[0][0]]
    return [place for place in chain(*zip_longest(first, other)) if place]


class Attempt:
    """The way to HTTP at one address: TCP, a proxy's tunnel and TLS, whichever there are.

    It does not wait itself: its caller is told what to wait for.

    Attributes:
        socket: another one once TLS begins; None before the first step.
        event: of `select.poll`, that the next step needs.
        silence: what there is to say if it never comes.
    """

    def __init__(
        self, place: Address, target: Target, proxy: Proxy | None, tls: ssl.SSLContext | None
    ) -> None:
        self._place, self._target, self._proxy, self._tls = place, target, proxy, tls
        self._steps = self._go()
        self.socket: socket.socket | None = None
        self.event = 0
        self.silence = "not connected in time" + (f", {proxy.note}" if proxy else "")

    def go_on(self) -> bool:
        """Do what can be done by now: whether that was all.

        Raises:
            OSError: this address will not do.
        """
        self.event = next(self._steps, 0)
        return not self.event

    def close(self) -> None:
        """Let go of the socket."""
        if self.socket:
            self.socket.close()

    def _go(self) -> Iterator[int]:
        with naming(self._proxy):
            family, address = self._place
            self.socket = plain = socket.socket(family)  # may raise: no such family here
            plain.setblocking(False)
            number = plain.connect_ex(address)
            if number == errno.EINPROGRESS:
                yield select.POLLOUT
                number = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
            _tune(plain)
            if self._proxy:
                tunnel = Tunnel(self._proxy, self._target)
                plain.sendall(tunnel.request)
                yield select.POLLIN
                while not tunnel.is_open(plain.recv(_PIECE)):
                    yield select.POLLIN
        if self._tls:
            yield from self._shake_hands(plain, self._tls)

    def _shake_hands(self, plain: socket.socket, tls: ssl.SSLContext) -> Iterator[int]:
        self.silence = TLS_SILENCE
        self.socket = encrypted = tls.wrap_socket(
            plain, server_hostname=self._target.host, do_handshake_on_connect=False
        )
        while True:
            try:
                return encrypted.do_handshake()
            except ssl.SSLWantReadError:
                yield select.POLLIN
            except ssl.SSLWantWriteError:
                yield select.POLLOUT


def _tune(connected: socket.socket) -> None:
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for level, option, value in _VANISHED:
        connected.setsockopt(level, option, value)


def connect(
    attempts: Iterable[Attempt],
    left: Callable[[Callable[[], str]], float],
    under_way: MutableSet[Attempt],
) -> socket.socket:
    """Connect to whichever address is the first to take all steps.

    Args:
        attempts: one for each address, in the order to be tried.
        left: seconds that this may take yet; when there are none, raises with what it is given.
        under_way: holds the attempts meanwhile, so that another thread can shut them down.

    Raises:
        OSError: every address refused; see `_foremost`.
    """
    waiting = deque(attempts)
    refusals: list[BaseException] = []
    next_at = 0.0
    try:
        while waiting or under_way:
            seconds = left(partial(silence, under_way))
            now = time.monotonic()
            if waiting and now >= next_at:
                next_at = now + NEXT_ADDRESS
                ready = [waiting.popleft()]
                under_way.add(ready[0])
            else:
                ready = _ready(under_way, min(seconds, next_at - now) if waiting else seconds)
            for attempt in ready:
                try:
                    if attempt.go_on():
                        under_way.discard(attempt)
                        assert attempt.socket
                        return attempt.socket
                except OSError as error:
                    refusals.append(error)
                    under_way.discard(attempt)
                    attempt.close()
                    next_at = 0.0
        raise _foremost(refusals)
    finally:
        for attempt in under_way:
            attempt.close()
        under_way.clear()


def _ready(attempts: Collection[Attempt], seconds: float) -> list[Attempt]:
    """Those that can go on, once there are any."""
    poll, by_number = select.poll(), {}
    for attempt in attempts:
        assert attempt.socket
        poll.register(attempt.socket, attempt.event)
        by_number[attempt.socket.fileno()] = attempt
    return [by_number[number] for number, _ in poll.poll(1000 * seconds)]


async def go_awaited(attempt: Attempt) -> socket.socket:
    """Go the whole way."""
    loop = asyncio.get_running_loop()
    try:
        while not attempt.go_on():
            assert attempt.socket
            ready = loop.create_future()
            if attempt.event == select.POLLIN:
                add, remove = loop.add_reader, loop.remove_reader
            else:
                add, remove = loop.add_writer, loop.remove_writer
            add(attempt.socket, _settle, ready)
            try:
                await ready
            finally:
                remove(attempt.socket)
    except BaseException:
        attempt.close()
        raise
    assert attempt.socket
    return attempt.socket


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def first_awaited(
    openings: Iterable[Callable[[], Coroutine[Any, Any, Opened]]], close: Callable[[Opened], object]
) -> Opened:
    """What the first of several to come through opened; the others are ended, and closed.

    What asyncio has for it ends with TCP, and loses sockets when it is cancelled.
    """
    waiting = deque(openings)
    under_way: set[asyncio.Task[Opened]] = set()
    refusals: list[BaseException] = []
    try:
        while waiting or under_way:
            if waiting:
                under_way.add(asyncio.create_task(waiting.popleft()()))
            done, _ = await asyncio.wait(
                under_way,
                timeout=NEXT_ADDRESS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                under_way.discard(task)
                if (refusal := task.exception()) is None:
                    return task.result()
                refusals.append(refusal)
        raise _foremost(refusals)
    finally:
        for task in under_way:
            task.cancel()
        for opened in await asyncio.gather(*under_way, return_exceptions=True):
            if not isinstance(opened, BaseException):
                close(opened)


def silence(attempts: Iterable[Attempt]) -> str:
    """What to say of addresses that did not answer: the words of the attempt that came furthest."""
    said = [attempt.silence for attempt in attempts]
    return TLS_SILENCE if TLS_SILENCE in said else next(iter(said), "not connected in time")


def _foremost(refusals: Sequence[BaseException]) -> BaseException:
    """What TLS says, if it came to that at any address; else the last one's refusal."""
    in_tls = (refusal for refusal in refusals if isinstance(refusal, ssl.SSLError))
    last = refusals[-1] if refusals else OSError("the name has no address")
    return next(in_tls, last)


@contextlib.contextmanager
def soon(target: Target, deadline: float) -> Iterator[float]:
    """Until when connecting may last: not long, if another server can be asked."""
    until = deadline
    if target.has_company:
        until = min(deadline, time.monotonic() + NEXT_SERVER)
    try:
        yield until
    except TimeoutError as error:
        if until == deadline:
            raise
        raise ConnectionError(str(error)) from error


@contextlib.contextmanager
def naming(proxy: Proxy | None) -> Iterator[None]:
    """Name the proxy in what goes wrong on the way to it, and through it."""
    try:
        yield
    except OSError as error:
        if proxy is None:
            raise
        kind = TimeoutError if isinstance(error, TimeoutError) else ConnectionError
        raise kind(f"{error}, {proxy.note}") from error


class Tunnel:
    """A proxy's way to a server, free of I/O: HTTP's CONNECT (RFC 9110, section 9.3.6)."""

    def __init__(self, proxy: Proxy, target: Target) -> None:
        self._h11 = h11.Connection(h11.CLIENT)
        headers = [("Host", target.address)]
        if proxy.secret:
            secret = base64.b64encode(unquote(proxy.secret).encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {secret}"))
        request = h11.Request(method="CONNECT", target=target.address, headers=headers)
        self.request = self._h11.send(request) + self._h11.send(h11.EndOfMessage())

    def is_open(self, data: bytes) -> bool:
        """Take what came (b"" when the proxy hung up): whether the way is free.

        Raises:
            ConnectionError: it is refused.
        """
        self._h11.receive_data(data)
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise ConnectionError(f"the proxy hung up or does not speak HTTP: {error}") from error
        if isinstance(event, h11.Response):
            if 200 <= event.status_code < 300:
                return True
            raise ConnectionError(f"the proxy answered with HTTP {event.status_code}")
        return False
