"""What stands before a conversation: which address of a name answers first, and the way there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, MutableSet, Sequence
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import unquote

import h11

from tfserving_client.call.proxy import Proxy
from tfserving_client.call.target import Target

NEXT_ADDRESS = 0.25  # seconds after which the next address is tried, too: RFC 8305, section 5
NEXT_SERVER = 0.5  # seconds for TCP, a proxy and TLS each, after which the next server is tried
NOT_SOON = f"not connected within {NEXT_SERVER} s"

Address = tuple[socket.AddressFamily, Any]


def addresses(host: str, port: int, flags: int = 0) -> list[Address]:
    """Those of a name, its families by turns: RFC 8305, section 4."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    first = [(family, address) for family, _, _, _, address in found if family == found[0][0]]
    other = [(family, address) for family, _, _, _, address in found if family != found[0][0]]
    return [place for place in chain(*zip_longest(first, other)) if place]


async def awaited_addresses(host: str, port: int) -> list[Address]:
    """The same in a thread, unless there is nobody to ask."""
    try:
        return addresses(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.to_thread(addresses, host, port)


def connect(
    places: Sequence[Address], left: Callable[[], float], under_way: MutableSet[socket.socket]
) -> socket.socket:
    """Connect to whichever address answers first.

    Args:
        places: the addresses, in the order to be tried.
        left: seconds that this may take yet; raises when there are none.
        under_way: holds the sockets meanwhile, so that another thread can shut them down.

    Raises:
        OSError: every address refused; the last one's refusal.
    """
    poll = select.poll()
    waiting = deque(places)
    refusal: OSError | None = None
    try:
        while waiting or under_way:
            if waiting:
                try:
                    attempt = _begin(waiting.popleft())
                except OSError as error:
                    refusal = error
                    continue
                under_way.add(attempt)
                poll.register(attempt, select.POLLOUT)
            pause = min(left(), NEXT_ADDRESS) if waiting else left()
            ready = {number for number, _ in poll.poll(1000 * pause)}
            for attempt in [attempt for attempt in under_way if attempt.fileno() in ready]:
                refusal = _outcome(attempt)
                under_way.discard(attempt)
                if refusal is None:
                    return attempt
                poll.unregister(attempt)
                attempt.close()
        raise refusal or OSError("the name has no address")
    finally:
        for attempt in under_way:
            attempt.close()
        under_way.clear()


async def connect_awaited(places: Sequence[Address]) -> socket.socket:
    """The same for coroutines. What asyncio has for it loses sockets when it is cancelled."""
    loop = asyncio.get_running_loop()
    waiting = deque(places)
    under_way: dict[socket.socket, asyncio.Future[None]] = {}
    refusal: OSError | None = None
    try:
        while waiting or under_way:
            if waiting:
                try:
                    attempt = _begin(waiting.popleft())
                except OSError as error:
                    refusal = error
                    continue
                under_way[attempt] = ready = loop.create_future()
                loop.add_writer(attempt, _settle, ready)
            pause = NEXT_ADDRESS if waiting else None
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(under_way.values(), timeout=pause, return_when=first)
            for attempt in [attempt for attempt, ready in under_way.items() if ready.done()]:
                loop.remove_writer(attempt)
                del under_way[attempt]
                refusal = _outcome(attempt)
                if refusal is None:
                    return attempt
                attempt.close()
        raise refusal or OSError("the name has no address")
    finally:
        for attempt in under_way:
            loop.remove_writer(attempt)
            attempt.close()


def _begin(place: Address) -> socket.socket:
    """A socket that connects by itself."""
    family, address = place
    attempt = socket.socket(family)  # may raise: no such family on this machine
    try:
        attempt.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            attempt.connect(address)
    except OSError:
        attempt.close()
        raise
    return attempt


def _outcome(attempt: socket.socket) -> OSError | None:
    number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number)) if number else None


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


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
            raise ConnectionError(f"the proxy hung up or speaks no HTTP: {error}") from error
        if isinstance(event, h11.Response):
            if 200 <= event.status_code < 300:
                return True
            raise ConnectionError(f"the proxy answered with HTTP {event.status_code}")
        return False
