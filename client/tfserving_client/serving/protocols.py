"""The code for each protocol, imported when it is first used: no client pays for both."""

from __future__ import annotations

from functools import cache

from tfserving_client.call.exchange import AsyncTransport, Transport, Wire
from tfserving_client.call.target import Target


@cache
def wire(grpc: bool) -> Wire:
    """How requests and answers are written: as gRPC's messages, or else as REST's JSON."""
    if grpc:
        from tfserving_client.grpc.wire import GrpcWire

        return GrpcWire()
    from tfserving_client.rest.wire import RestWire

    return RestWire()


def transport(target: Target) -> Transport:
    """Connections to a server, for threads."""
    if target.grpc:
        from tfserving_client.grpc.transport import GrpcTransport

        return GrpcTransport(target)
    from tfserving_client.rest.transport import RestTransport

    return RestTransport(target)


def async_transport(target: Target) -> AsyncTransport:
    """Connections to a server, for coroutines."""
    if target.grpc:
        from tfserving_client.grpc.transport import AsyncGrpcTransport

        return AsyncGrpcTransport(target)
    from tfserving_client.rest.transport import AsyncRestTransport

    return AsyncRestTransport(target)
