"""Carries exchanges over one gRPC channel."""

from __future__ import annotations

import grpc

from client.errors import BadResponse, CallContext, CallError, ServerFailed, Unreachable
from client.exchange import Answer, Exchange
from client.grpc_wire import ERRORS
from client.target import Target

_OPTIONS = [
    # gRPC's own default refuses answers over 4 MiB, which is some 40,000 digits.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # After a server's restart, gRPC's default waits up to two minutes before it tries again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class GrpcTransport:
    """Thread-safe; one channel, whose calls share one connection."""

    def __init__(self, target: Target) -> None:
        self._channel = (
            grpc.secure_channel(target.address, grpc.ssl_channel_credentials(), _OPTIONS)
            if target.tls
            else grpc.insecure_channel(target.address, _OPTIONS)
        )

    def exchange(self, exchange: Exchange[Answer], timeout: float) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer."""
        call = self._channel.unary_unary(exchange.method)
        try:
            body = call(exchange.body, timeout=timeout)
        except grpc.RpcError as error:
            raise _failure(exchange.context, error) from error
        except ValueError as error:  # "Cannot invoke RPC on closed channel!"
            raise Unreachable(exchange.context, str(error)) from error
        return exchange.decode(body)

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        self._channel.close()


def _failure(context: CallContext, error: grpc.RpcError) -> CallError:
    status, details = error.code(), error.details() or ""
    kind = ERRORS.get(status.name, ServerFailed)
    if "Failed parsing HTTP/2" in details:  # gRPC calls it UNAVAILABLE; waiting would not help
        kind = BadResponse
    return kind(context, f"{status.name} {details}")
