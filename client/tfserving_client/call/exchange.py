"""One request and its answer, free of I/O: what a protocol makes and a transport carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfserving_client.errors import CallContext
from tfserving_client.results import Label, Metadata, Prediction, Signature, VersionStatus

Answer = TypeVar("Answer")

# alias → an array of one of `tensors.dtypes`, or of bytes as objects; or one row of strings.
Inputs = Mapping[str, NDArray[Any] | list[bytes]]

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


class Wire(Protocol):
    """How the calls look on one protocol."""

    def predict(
        self,
        context: CallContext,
        inputs: Inputs,
        outputs: Sequence[str] = (),
        declared: Signature | None = None,
    ) -> Exchange[Prediction]:
        """Run the signature that the context names.

        Args:
            context: what this asks of whom.
            inputs: the tensors.
            outputs: the names of those that are wanted; all, if there are none.
            declared: the signature. Without it REST's numbers come as JSON tells them, and an only
                output without its name, as "".

        Raises:
            InvalidInput: the protocol cannot carry this.
        """

    def classify(
        self, context: CallContext, examples: Sequence[Mapping[str, Any]]
    ) -> Exchange[list[list[Label]]]:
        """The labels of each example, by a signature for it."""

    def regress(
        self, context: CallContext, examples: Sequence[Mapping[str, Any]]
    ) -> Exchange[NDArray[np.float32]]:
        """The number of each example, by a signature for it."""

    def status(self, context: CallContext) -> Exchange[tuple[VersionStatus, ...]]:
        """State of every version the server has seen, newest first."""

    def metadata(self, context: CallContext) -> Exchange[Metadata]:
        """Signatures of a loaded version."""


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
