"""One request and its answer, free of I/O: what a protocol makes and a transport carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from client.errors import CallContext
from client.images import Batch
from client.results import Metadata, VersionStatus

Answer = TypeVar("Answer")

# In the text of UNAVAILABLE, or 503: the server is there, and too busy.
FULL_QUEUE = "The batch scheduling queue to which this request was submitted is full"


class Exchange(NamedTuple, Generic[Answer]):
    """A request as bytes, and how to read the bytes that come back.

    Attributes:
        context: what this asks of whom, for error messages.
        method: a gRPC method's full path, or an HTTP verb and path.
        body: the request.
        decode: the answer's bytes → the answer. Raises `BadResponse`.
    """

    context: CallContext
    method: str
    body: bytes
    decode: Callable[[bytes], Answer]


class Prediction(NamedTuple):
    """A model's raw outputs by alias, and the version that answered if the server tells."""

    outputs: Mapping[str, NDArray[Any]]
    version: int | None


class Wire(Protocol):
    """How the three calls look on one protocol."""

    def predict(self, context: CallContext, batch: Batch) -> Exchange[Prediction]:
        """Run one signature on a batch."""

    def status(self, context: CallContext) -> Exchange[tuple[VersionStatus, ...]]:
        """State of every version the server has seen, newest first."""

    def metadata(self, context: CallContext) -> Exchange[Metadata]:
        """Signatures of a loaded version."""

    def faster(self, batch: Batch) -> Batch | None:
        """The batch for a signature that is faster on this protocol, which a model may lack."""


class Transport(Protocol):
    """Carries exchanges to one server. With `AsyncTransport` the one seam for I/O."""

    def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """Send the request, wait at most `timeout` seconds, read the answer.

        Raises:
            CallError: whatever went wrong, as the right subclass.
        """

    def close(self) -> None:
        """Let go of every connection."""


class AsyncTransport(Protocol):
    """The same with coroutines."""

    async def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        """See `Transport.send`."""

    async def close(self) -> None:
        """See `Transport.close`."""
