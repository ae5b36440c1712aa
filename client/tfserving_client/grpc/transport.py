"""Carries exchanges over one gRPC channel, with threads or with asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import grpc

from tfserving_client.call.endpoints import NEXT_SERVER
from tfserving_client.call.exchange import Answer, Exchange
from tfserving_client.call.proxy import Proxy, proxy_for
from tfserving_client.call.target import Target
from tfserving_client.errors import CallContext, CallError, Unreachable
from tfserving_client.grpc.wire import failure as told

_OPTIONS = [
    # gRPC's own default refuses answers over 4 MiB, which is some 40,000 digits.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # After a server's restart, gRPC's default waits up to two minutes before it tries again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that vanished without a word (power, a firewall) is noticed within 7 s of a call. The
    # server's limit on pings is not met: gRPC sends two at most without data in between.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without it the keep-alive waits a minute for a ping that gRPC sent for another reason.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Clients of one server would share a connection, and a new one an older one's wait for it.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries are decided in `call`; gRPC's own, prepared for each call, cost 5 % of a short one.
    ("grpc.enable_retries", 0),
    # All of a name's addresses are connected to at once, and take turns: one that is silent, in TCP
    # or in TLS, delays no call.
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
]

_NO_PROXY = ("grpc.enable_http_proxy", 0)
# The time in which a connection must come about, TLS included; the default is 20 s.
_NEXT_SERVER = ("grpc.min_reconnect_backoff_ms", int(1000 * NEXT_SERVER))
_TLS_TIMEOUT = 1.0  # seconds for a look at one address


class GrpcTransport:
    """Thread-safe; one channel, whose calls share one connection."""

    def __init__(self, target: Target) -> None:
        self._target, self._proxy = target, proxy_for(target)
        self._channel = _channel(grpc, target, self._proxy)
        self._methods: dict[str, Any] = {}

    def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        try:
            call = _method(self._channel, self._methods, exchange)
            body = call(exchange.body, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            failure = _failure(exchange.context, error, self._proxy)
            if _hides_tls(failure, self._target) and (text := _tls_fault(self._target)):
                failure = Unreachable(exchange.context, text)
            raise failure from error
        except ValueError as error:  # "Cannot invoke RPC on closed channel!"
            raise Unreachable(exchange.context, str(error)) from error
        return exchange.decode(body)

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        if self._channel:
            self._channel.close()


class AsyncGrpcTransport:
    """The same for the event loop that it was made in."""

    def __init__(self, target: Target) -> None:
        self._target, self._proxy = target, proxy_for(target)
        self._channel = _channel(grpc.aio, target, self._proxy)
        self._methods: dict[str, Any] = {}

    async def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        try:
            call = _method(self._channel, self._methods, exchange)
            body = await call(exchange.body, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            failure = _failure(exchange.context, error, self._proxy)
            if _hides_tls(failure, self._target) and (
                text := await asyncio.to_thread(_tls_fault, self._target)
            ):
                failure = Unreachable(exchange.context, text)
            raise failure from error
        except (grpc.aio.UsageError, asyncio.CancelledError) as error:
            # gRPC cancels the call, not the task, when the channel is closed beneath it.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise
            raise Unreachable(exchange.context, "the channel was closed") from error
        return exchange.decode(body)

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        if self._channel:
            await self._channel.close()


# gRPC's threads do not survive a fork, and outlive a closed channel: in the child of a process that
# used gRPC calls could hang, timeouts and all, unless gRPC was imported with its fork support on,
# which does not cover asyncio.
_used: set[Any] = set()  # of grpc and grpc.aio
_is_broken_by_fork = False


def _after_fork() -> None:
    global _is_broken_by_fork
    supported = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in {"1", "true"}
    _is_broken_by_fork = grpc.aio in _used or (grpc in _used and not supported)


os.register_at_fork(after_in_child=_after_fork)


def _channel(family: Any, target: Target, proxy: Proxy | None) -> Any:
    if _is_broken_by_fork:
        return None  # making one could hang already; `_method` tells
    _used.add(family)
    # gRPC would go by a proxy to this machine, too.
    options = [*_OPTIONS, ("grpc.http_proxy", proxy.url) if proxy else _NO_PROXY]
    if target.has_company:
        options.append(_NEXT_SERVER)
    if target.tls is None:
        return family.insecure_channel(target.address, options)
    return family.secure_channel(target.address, target.tls.credentials(), options)


def _method(channel: Any, methods: dict[str, Any], exchange: Exchange[Any]) -> Any:
    if channel is None:
        raise Unreachable(
            exchange.context,
            "this process was forked after gRPC was used, which gRPC does not survive: fork before "
            "the first call, start processes by spawn, or (not with asyncio) set "
            "GRPC_ENABLE_FORK_SUPPORT=1 before gRPC is imported",
        )
    if exchange.method not in methods:
        methods[exchange.method] = channel.unary_unary(exchange.method)
    return methods[exchange.method]


def _failure(context: CallContext, error: grpc.RpcError, proxy: Proxy | None) -> CallError:
    metadata = {**dict(error.initial_metadata() or ()), **dict(error.trailing_metadata() or ())}
    text = error.details() or ""
    if proxy and _NO_CONNECTION in text:
        text += f", {proxy.note}"
    return told(context, error.code().name, text, metadata)


_NO_CONNECTION = "backends failing"


def _hides_tls(error: CallError, target: Target) -> bool:
    """Whether this may be said of one address, and something else be the matter at another."""
    is_refused = _NO_CONNECTION in error.server_text and error.server_text.endswith("refused")
    return is_refused and target.tls is not None and not target.socket


def _tls_fault(target: Target) -> str:
    """What TLS says at the addresses of a name; empty if nothing is wrong with it."""
    assert target.tls is not None
    context = target.tls.context()
    for *_, address in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
        try:
            with (
                socket.create_connection((str(address[0]), target.port), _TLS_TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=target.host),
            ):
                pass
        except ssl.SSLError as error:
            return str(error)
        except OSError:
            continue
    return ""
