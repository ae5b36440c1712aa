"""Carries exchanges over pooled HTTP/1.1 connections."""

from __future__ import annotations

import http.client

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
        try:
            response = self._pool.urlopen(
                verb,
                self._prefix + path,
                body=exchange.body or None,
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(total=timeout),
                redirect=False,
            )
        except exceptions.HTTPError as error:
            causes = (error, *error.args)  # urllib3 keeps what it wraps among the arguments
            raise next(
                kind
                for cause_type, kind in _FAILURES
                if any(isinstance(cause, cause_type) for cause in causes)
            )(exchange.context, str(error)) from error
        if response.status != 200:
            raise failure(exchange.context, response.status, response.data)
        return exchange.decode(response.data)

    def close(self) -> None:
        """Close every pooled connection."""
        self._pool.close()
