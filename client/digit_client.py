"""The client: five verbs over either protocol."""

from __future__ import annotations

import time
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from client.errors import (
    BadResponse,
    CallContext,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ServerFailed,
    Unreachable,
)
from client.exchange import Prediction, Transport, Wire
from client.images import prepare
from client.results import Classification, Metadata, State, VersionStatus
from client.target import Target, parse

DEFAULT_TIMEOUT = 10.0  # seconds, for one call
READY_TIMEOUT = 60.0  # seconds; a server's start with its warm-up takes a few
_LONGEST = 1e6  # seconds; more overflows the clocks of gRPC and sockets
_ROUNDING = 1e-3  # how far past 0..1 a probability may lie
_READY_INTERVAL = 0.2  # seconds between two questions whether it is ready


class DigitClient:
    """Classifies handwritten digits with a model on TensorFlow Serving.

        with DigitClient("grpc://localhost:8500") as digits:
            answer = digits.classify(images)

    Threads may share one client; it holds connections, so make one per process and close it. After
    a fork, make a new one in the child.

    Args:
        url: `grpc://host:8500`, `grpcs://host`, `http://host:8501` or `https://host[/prefix]`.
        model: the model's name on the server.
        timeout: seconds that a call may take, unless the call says otherwise.

    Raises:
        InvalidInput: an unreadable URL or timeout.
    """

    def __init__(self, url: str, *, model: str = "mnist", timeout: float = DEFAULT_TIMEOUT) -> None:
        target = parse(url)
        self.url = url
        self.model = _checked_name("model", model)
        self.timeout = _checked_timeout(timeout)
        self._wire, self._transport = _connect(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Later calls raise `Unreachable`."""
        self._transport.close()

    def classify(
        self,
        images: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Classification:
        """Which digit is on each image.

        Args:
            images: integers in 0..255 or floats in 0..1 of shape (28, 28), (n, 28, 28),
                (n, 28, 28, 1) or (n, 784), white ink on black as in MNIST; or pictures (paths,
                bytes of PNG or JPEG, PIL images; one or a list), of any size and on any paper.
            version: ask this version; the default is the newest that is loaded.
            label: ask the version that carries this label.
            timeout: seconds, instead of the client's.

        Raises:
            InvalidInput: something other than such images; nothing was sent.
            CallError: the call failed; see `client.errors`.
        """
        batch = prepare(images)
        context = self._context(version, label, batch.signature)
        exchange = self._wire.predict(context, batch)
        prediction = self._transport.exchange(exchange, self._timeout(timeout))
        return _classification(context, prediction, len(batch.values))

    def status(
        self, *, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """State of every version that the server has seen, newest first; or of one version.

        Raises:
            NotFound: the server never saw this model or version.
            CallError: the call failed.
        """
        exchange = self._wire.status(self._context(version, None))
        return self._transport.exchange(exchange, self._timeout(timeout))

    def metadata(
        self,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> Metadata:
        """The signatures of a loaded version.

        Raises:
            NotFound: no such version is loaded.
            CallError: the call failed.
        """
        exchange = self._wire.metadata(self._context(version, label))
        return self._transport.exchange(exchange, self._timeout(timeout))

    def ready(self, *, version: int | None = None, timeout: float | None = None) -> bool:
        """Whether some version (or this one) is AVAILABLE; False also where no server answers.

        Raises:
            CallError: a server answers, and its answer will not change by waiting.
        """
        try:
            statuses = self.status(version=version, timeout=timeout)
        except (Unreachable, DeadlineExceeded, NotFound):
            return False
        return any(status.state is State.AVAILABLE for status in statuses)

    def wait_until_ready(
        self, *, version: int | None = None, timeout: float = READY_TIMEOUT
    ) -> None:
        """Return once some version (or this one) is AVAILABLE.

        Args:
            version: wait for this version.
            timeout: seconds for the whole wait.

        Raises:
            DeadlineExceeded: it did not become ready in time.
            ServerFailed: the version asked for failed to load, with the server's reason.
        """
        deadline = time.monotonic() + _checked_timeout(timeout)
        context = self._context(version, None)
        seen = "nothing was asked yet"
        while (left := deadline - time.monotonic()) > 0:
            try:
                statuses = self.status(version=version, timeout=min(left, self.timeout))
            except (Unreachable, DeadlineExceeded, NotFound) as error:
                seen = error.server_text
            else:
                if any(status.state is State.AVAILABLE for status in statuses):
                    return
                seen = ", ".join(f"version {status.version} {status.state}" for status in statuses)
                if version is not None and (reason := "".join(row.error for row in statuses)):
                    raise ServerFailed(context, f"version {version} failed to load: {reason}")
            time.sleep(max(0.0, min(_READY_INTERVAL, deadline - time.monotonic())))
        raise DeadlineExceeded(context, f"not AVAILABLE within {timeout:g} s; last seen: {seen}")

    def _context(
        self, version: int | None, label: str | None, signature: str | None = None
    ) -> CallContext:
        if version is not None:
            version = _checked_version(version)
        if label is not None:
            label = _checked_name("label", label)
        if version is not None and label is not None:
            raise InvalidInput(f"version {version} and label {label!r} given; expected one of them")
        return CallContext(self.url, self.model, version, label, signature)

    def _timeout(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else _checked_timeout(timeout)


def _connect(target: Target) -> tuple[Wire, Transport]:
    # Imported here, so that a caller pays only for the protocol that it uses.
    if target.grpc:
        from client.grpc_transport import GrpcTransport
        from client.grpc_wire import GrpcWire

        return GrpcWire(), GrpcTransport(target)
    from client.rest_transport import RestTransport
    from client.rest_wire import RestWire

    return RestWire(), RestTransport(target)


# Callers may not use a type checker, and a wrong type would fail late, or silently.


def _checked_timeout(timeout: Any) -> float:
    is_number = isinstance(timeout, Real) and not isinstance(timeout, bool)
    if not (is_number and 0 < timeout <= _LONGEST):
        raise InvalidInput(
            f"timeout is {timeout!r}; expected seconds, more than 0 and at most {_LONGEST:g}"
        )
    return float(timeout)


def _checked_version(version: Any) -> int:
    is_integer = isinstance(version, Integral) and not isinstance(version, bool)
    if not (is_integer and 0 < version < 2**63):
        raise InvalidInput(f"version is {version!r}; expected a positive 64-bit integer")
    return int(version)


def _checked_name(what: str, name: Any) -> str:
    if not (isinstance(name, str) and name and name.isprintable()):
        raise InvalidInput(f"{what} is {name!r}; expected a name")
    return name


def _classification(context: CallContext, prediction: Prediction, n: int) -> Classification:
    outputs = prediction.outputs
    # `predict_images` keeps the names of TensorFlow Serving's own example, and has one output.
    probabilities = outputs.get("probabilities", outputs.get("scores"))
    if probabilities is None or probabilities.shape != (n, 10):
        found = {alias: array.shape for alias, array in outputs.items()}
        raise BadResponse(context, f"outputs {found}; expected probabilities of shape ({n}, 10)")
    if probabilities.dtype.kind not in "fiu" or not _all_within(
        probabilities, -_ROUNDING, 1 + _ROUNDING
    ):
        raise BadResponse(context, "probabilities that do not lie in 0..1")
    digits = outputs.get("digits", probabilities.argmax(axis=1))
    if digits.dtype.kind not in "iu" or digits.shape != (n,) or not _all_within(digits, 0, 9):
        raise BadResponse(context, f"digits that are not {n} integers in 0..9")
    return Classification(
        digits.astype(np.int64, copy=False),
        probabilities.astype(np.float32, copy=False),
        prediction.version,
    )


def _all_within(values: NDArray[Any], low: float, high: float) -> bool:
    return bool(values.min() >= low and values.max() <= high)  # NaN is within nothing
