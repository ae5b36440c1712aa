"""Carries exchanges over pooled HTTP/1.1 connections."""

from __future__ import annotations

import http.client
import time

import urllib3
from urllib3 import exceptions

from client.errors import BadResponse, CallError, DeadlineExceeded, Unreachable
from client.exchange import Answer, Exchange
from client.rest_wire import failure
from client.target import Target

_CONNECTIONS = 16  # kept open for later calls; more are opened when more threads call at once

# The first row that fits an exception or its cause.
_FAILURES: tuple[tuple[type[Exception], type[CallError]], ...] = (
    (exceptions.NewConnectionError, Unreachable),  # a TimeoutError to urllib3, too: so it is first
    (exceptions.TimeoutError, DeadlineExceeded),
    (TimeoutError, DeadlineExceeded),
    (exceptions.ClosedPoolError, Unreachable),
    (exceptions.SSLError, Unreachable),
    (ConnectionError, Unreachable),  # refused, reset, or closed in mid-call
    (http.client.IncompleteRead, Unreachable),
    (Exception, BadResponse),
)


class RestTransport:
    """Thread-safe; a pool of keep-alive connections."""

    def __init__(self, target: Target) -> None:
        pool = urllib3.HTTPSConnectionPool if target.tls else urllib3.HTTPConnectionPool
        self._pool = pool(target.host, target.port, maxsize=_CONNECTIONS, retries=False)
        self._prefix = target.prefix

    def exchange(self, exchange: Exchange[Answer], timeout: float) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        verb, path = exchange.method.split(" ", 1)
        deadline = time.monotonic() + timeout
        try:
            response = self._pool.urlopen(
                verb,
                self._prefix + path,
                body=exchange.body or None,
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(total=timeout),
                redirect=False,
                preload_content=False,
            )
            body = _read(response, deadline)
        except (exceptions.HTTPError, TimeoutError) as error:
            causes = (error, *error.args)  # urllib3 keeps what it wraps among the arguments
            raise next(
                kind
                for cause_type, kind in _FAILURES
                if any(isinstance(cause, cause_type) for cause in causes)
            )(exchange.context, str(error)) from error
        if response.status != 200:
            raise failure(exchange.context, response.status, body)
        return exchange.decode(body)

    def close(self) -> None:
        """Close every pooled connection."""
        self._pool.close()


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The body; urllib3's own timeout begins anew with every piece that arrives."""
    pieces = []
    while piece := response.read1():
        pieces.append(piece)
        if time.monotonic() > deadline:
            response.close()
            raise TimeoutError("the answer had not arrived in full")
    body = b"".join(pieces)
    if response.length_remaining:  # the server hung up
        raise exceptions.IncompleteRead(len(body), response.length_remaining)
    return body
