"""Carries exchanges over pooled HTTP/1.1 connections, with threads or with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial

import h11

from tfserving_client.call.exchange import Answer, Exchange
from tfserving_client.call.proxy import Proxy, proxy_for
from tfserving_client.call.target import Target
from tfserving_client.errors import (
    CLOSED,
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    Unreachable,
)
from tfserving_client.rest.connecting import (
    TLS_SILENCE,
    Attempt,
    awaited_places,
    connect,
    first_awaited,
    go_awaited,
    places,
    silence,
    soon,
)
from tfserving_client.rest.http11 import Conversation, Response
from tfserving_client.rest.wire import failure

_CONNECTIONS = 16  # kept open for later calls; more are opened when more callers ask at once
_PIECE = 1 << 18  # bytes taken from a connection at once


class _Rest:
    """What both kinds of transport are made of."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls = target.tls.context() if target.tls else None
        self._proxy = proxy_for(target)
        self._is_closed = False

    @contextlib.contextmanager
    def _told(self, context: CallContext) -> Iterator[None]:
        """Tell what goes wrong as a `CallError`."""
        try:
            yield
        except (OSError, h11.ProtocolError) as error:
            if self._is_closed:
                raise Unreachable(context, CLOSED) from error
            kind = next(kind for cause, kind in _FAILURES if isinstance(error, cause))
            if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
                kind = Unreachable  # the system's word for a peer that vanished
            raise kind(context, str(error) or "no answer in time") from error


# The first row that fits.
_FAILURES: tuple[tuple[type[Exception], type[CallError]], ...] = (
    (TimeoutError, DeadlineExceeded),
    (h11.ProtocolError, BadResponse),
    # Refused, reset, no trust, no such name, or none that can be (which is a ValueError).
    (Exception, Unreachable),
)


class RestTransport(_Rest):
    """Thread-safe; a connection carries one call at a time."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()

    def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        deadline = time.monotonic() + timeout
        with self._told(exchange.context):
            while True:
                connection = self._take()
                try:
                    if self._is_closed:
                        raise ConnectionError
                    response = connection.ask(exchange, self._target.prefix, headers, deadline)
                    break
                except (OSError, h11.ProtocolError) as error:
                    if self._is_closed or not _may_be_stale(connection.conversation, error):
                        _tell_if_at_once(connection.conversation, error)
                        raise
                finally:
                    self._put_back(connection)
        return _answer(exchange, response)

    def close(self) -> None:
        """Close every connection; calls that are under way end."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()
        for connection in tuple(self._busy):
            connection.interrupt()

    def _take(self) -> _Connection:
        connection = None
        with contextlib.suppress(IndexError):
            while connection is None:
                connection = self._idle.pop()
                if not connection.is_quiet():
                    connection.close()
                    connection = None
        connection = connection or _Connection(self._target, self._tls, self._proxy)
        self._busy.add(connection)
        return connection

    def _put_back(self, connection: _Connection) -> None:
        if connection.conversation.is_reusable and len(self._idle) < _CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        self._busy.discard(connection)
        if self._is_closed:  # maybe since the last look
            self.close()


class _Connection:
    """Connects when it is first asked."""

    def __init__(self, target: Target, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._target, self._tls, self._proxy = target, tls, proxy
        self._socket: socket.socket | None = None
        self._connecting: set[Attempt] = set()
        self._is_interrupted = False
        self.conversation = Conversation(target)

    def ask(
        self, exchange: Exchange[Answer], prefix: str, headers: Mapping[str, str], deadline: float
    ) -> Response:
        connected = self._socket or self._connect(deadline)
        self._wait_until(deadline, connected)
        # A server that refuses may answer before it has read everything, and hang up.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connected.sendall(_request(self.conversation, exchange, prefix, headers))
        while True:
            self._wait_until(deadline, connected)
            _acknowledge_at_once(connected)
            if response := self.conversation.receive(connected.recv(_PIECE)):
                return response

    def is_quiet(self) -> bool:
        """Whether the server said nothing since its last answer; it may have hung up."""
        assert self._socket is not None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def interrupt(self) -> None:
        """End the call that is under way in another thread."""
        self._is_interrupted = True  # seen by a thread that has no connected socket just now
        for connected in (self._socket, *(attempt.socket for attempt in {*self._connecting})):
            if connected:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)  # beneath TLS

    def close(self) -> None:
        if self._socket:
            self._socket.close()

    def _connect(self, deadline: float) -> socket.socket:
        target, proxy = self._target, self._proxy
        attempts = (Attempt(place, target, proxy, self._tls) for place in places(target, proxy))
        with soon(target, deadline) as until:
            self._socket = connect(attempts, partial(self._left, until), self._connecting)
        return self._socket

    def _wait_until(self, deadline: float, connected: socket.socket) -> None:
        """Say how long the next thing may take."""
        connected.settimeout(self._left(deadline, lambda: "the answer had not arrived in full"))

    def _left(self, deadline: float, otherwise: Callable[[], str]) -> float:
        if self._is_interrupted:
            raise ConnectionError
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(otherwise())
        return left


class AsyncRestTransport(_Rest):
    """The same for the event loop that it is used in."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._idle: deque[_Stream] = deque()
        self._under_way: set[asyncio.Timeout] = set()

    async def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        deadline = time.monotonic() + timeout
        with self._told(exchange.context):
            response = await self._ask(exchange, headers, deadline)
        return _answer(exchange, response)

    async def close(self) -> None:
        """Close every connection; calls that are under way end."""
        self._is_closed = True
        for limit in self._under_way:
            if not limit.expired():
                limit.reschedule(0)
        while self._idle:
            stream = self._idle.pop()
            stream.transport.abort()
            await stream.lost

    async def _ask(
        self, exchange: Exchange[Answer], headers: Mapping[str, str], deadline: float
    ) -> Response:
        while True:
            stream = self._take() or await self._open(deadline)
            try:
                async with self._until(deadline):
                    return await stream.ask(exchange, self._target.prefix, headers)
            except (OSError, h11.ProtocolError) as error:
                if not _may_be_stale(stream.conversation, error):
                    _tell_if_at_once(stream.conversation, error)
                    raise
            finally:
                self._put_back(stream)

    def _take(self) -> _Stream | None:
        while self._idle:
            stream = self._idle.pop()
            if not stream.transport.is_closing():
                return stream
        return None

    def _put_back(self, stream: _Stream) -> None:
        if (
            not self._is_closed
            and stream.conversation.is_reusable
            and len(self._idle) < _CONNECTIONS
        ):
            self._idle.append(stream)
        else:
            stream.transport.abort()

    async def _open(self, deadline: float) -> _Stream:
        target, proxy = self._target, self._proxy
        attempts: list[Attempt] = []
        with soon(target, deadline) as until:
            try:
                async with self._until(until):
                    found = await awaited_places(target, proxy)
                    # TLS is asyncio's own.
                    attempts += (Attempt(place, target, proxy, None) for place in found)
                    openings = (partial(self._open_at, attempt) for attempt in attempts)
                    return await first_awaited(openings, _Stream.abort)
            except TimeoutError as error:
                if error.errno:  # an address's own
                    raise
                raise TimeoutError(silence(attempts)) from error

    async def _open_at(self, attempt: Attempt) -> _Stream:
        loop, stream = asyncio.get_running_loop(), _Stream(self._target)
        connected = await go_awaited(attempt)
        transport, _ = await loop.create_connection(lambda: stream, sock=connected)
        if self._tls is None:
            return stream
        attempt.silence = TLS_SILENCE
        try:
            secured = await loop.start_tls(
                transport, stream, self._tls, server_hostname=self._target.host
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:  # closed meanwhile
            raise ConnectionResetError("the server hung up at once")
        stream.transport = secured
        return stream

    @contextlib.asynccontextmanager
    async def _until(self, deadline: float) -> AsyncIterator[None]:
        """Limit a step; `close` ends it at once, and lets no other begin."""
        if self._is_closed:
            raise ConnectionError
        async with asyncio.timeout(deadline - time.monotonic()) as limit:
            self._under_way.add(limit)
            try:
                yield
            finally:
                self._under_way.discard(limit)


class _Stream(asyncio.Protocol):
    """Attributes: `lost` is done once the connection is closed."""

    transport: asyncio.Transport

    def __init__(self, target: Target) -> None:
        self.conversation = Conversation(target)
        self.lost = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[Response] | None = None

    async def ask(
        self, exchange: Exchange[Answer], prefix: str, headers: Mapping[str, str]
    ) -> Response:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(_request(self.conversation, exchange, prefix, headers))
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def abort(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        _acknowledge_at_once(self.transport.get_extra_info("socket"))
        if self._answer is None or self._answer.done():  # nothing was asked
            self.transport.abort()
            return
        try:
            response = self.conversation.receive(data)
        except (ConnectionError, h11.ProtocolError) as error:
            self._answer.set_exception(error)
        else:
            if response:
                self._answer.set_result(response)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the connection was lost"))


def _request(
    conversation: Conversation, exchange: Exchange[Answer], prefix: str, headers: Mapping[str, str]
) -> bytes:
    verb, path = exchange.method.split(" ", 1)
    return conversation.request(verb, prefix + path, headers, exchange.body)


def _answer(exchange: Exchange[Answer], response: Response) -> Answer:
    if response.status != 200:
        raise failure(exchange.context, response.status, response.headers, response.body)
    return exchange.decode(response.body)


def _may_be_stale(conversation: Conversation, error: OSError | h11.ProtocolError) -> bool:
    """Whether a kept connection was closed by the server in the meantime: a new one will do."""
    return not conversation.is_fresh and not isinstance(error, TimeoutError)


def _tell_if_at_once(conversation: Conversation, error: Exception) -> None:
    """A connection that is reset before a word was said has reasons of its own; see `causes`."""
    if conversation.is_untouched and isinstance(error, ConnectionResetError | BrokenPipeError):
        raise ConnectionResetError(f"the server hung up at once: {error}") from error


def _acknowledge_at_once(connected: socket.socket) -> None:
    """Before each read, for it does not last.

    The real server writes long answers in pieces with Nagle's algorithm on: each piece waits until
    the one before it is acknowledged, which the kernel would otherwise put off for 40 ms.
    """
    if connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
