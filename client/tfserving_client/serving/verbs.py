"""What every client does, free of I/O.

Each verb is a generator. It yields what has to be done next (a `Step`), is sent what came of it, or
has the `CallError` thrown in, and returns the verb's answer. So validation, routing and the
decision whether to try again are written once; the clients of threads and of coroutines do what
they are told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tfserving_client.call.arguments import (
    checked_headers,
    checked_name,
    checked_seconds,
    checked_version,
    typed,
)
from tfserving_client.call.caller import Caller, Observe
from tfserving_client.call.policy import Policy
from tfserving_client.call.steps import Call, Wait
from tfserving_client.call.target import parse
from tfserving_client.call.tls import Tls
from tfserving_client.errors import (
    CLOSED,
    CallContext,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    ServerFailed,
    Unreachable,
)
from tfserving_client.results import Metadata, State, VersionStatus
from tfserving_client.serving.protocols import wire

READY_TIMEOUT = 60.0  # seconds; a server's start with its warm-up takes a few
_READY_INTERVAL = 0.2  # seconds between two questions whether it is ready
_PASSING = (Unreachable, DeadlineExceeded, NotFound, Overloaded)  # while a server starts


# Version and label → the signatures that it had when they were asked for, and until when, on the
# clock of `time.monotonic`, they count.
Known = dict[tuple[int | None, str | None], tuple[Metadata, float]]


class Verbs:
    """Everything about a client but its I/O.

    Args:
        url: where the server is; see `tfserving_client.call.target`. Several hosts share the load.
        model: the model's name on the server.
        timeout: seconds for a call, instead of the policy's.
        policy: how calls are tried again.
        coalesce: merge the calls of threads or coroutines that ask the same at the same time. True:
            a call waits while the one before it is under way, and if that was a merged one, up to
            `coalescing.PATIENCE` for as many callers. A number: always that many seconds.
        api_key: sent as the header (or gRPC metadata) `x-api-key`.
        headers: further headers or metadata for every request.
        tls: certificates for grpcs:// and https://; without it the system's authorities.
        observe: called before each attempt; returns a context manager that encloses the attempt.

    Raises:
        InvalidInput: an argument of the wrong type or out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        timeout: float | None = None,
        policy: Policy | None = None,
        coalesce: bool | float = False,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.url = url
        self.model = checked_name("model", model)
        if not isinstance(policy, Policy | None):
            raise InvalidInput(f"policy is {typed(policy)}; expected a Policy")
        if not (observe is None or callable(observe)):
            raise InvalidInput(f"observe is {typed(observe)}; expected a function")
        self.policy = policy or Policy()
        if timeout is not None:
            self.policy = replace(self.policy, timeout=checked_seconds("timeout", timeout))
        self._targets = parse(url, tls)
        all_headers = checked_headers({} if headers is None else headers)
        if api_key is not None:
            all_headers |= checked_headers({"x-api-key": api_key})
        self._wire = partial(wire, self._targets[0].grpc)
        self._caller = Caller(self._targets, self.policy, all_headers, observe, self._wire)
        # The longest that a call waits for other calls, in seconds; None merges nothing.
        self._company = None if coalesce is False else 0.0
        if not isinstance(coalesce, bool):
            self._company = checked_seconds("coalesce", coalesce, zero=True)
        self._known: Known = {}
        # Connections, made at the first call, by what they belong to: a process, an event loop.
        self._homes: dict[Any, Any] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        """The URL and the model, without keys and headers."""
        return f"{type(self).__name__}({self.url!r}, model={self.model!r})"

    def __reduce__(self) -> str:
        """A client holds connections, which belong to one process."""
        raise TypeError(
            f"{self!r} cannot be pickled or copied, because it holds connections; pass the URL on, "
            "and make a client in each process"
        )

    @property
    def timeout(self) -> float:
        """Seconds that a call may take, unless the call says otherwise."""
        return self.policy.timeout

    def _status(
        self, version: int | None, timeout: float | None, attempts: int | None = None
    ) -> Call[tuple[VersionStatus, ...]]:
        exchange = self._wire().status(self._context(version, None))
        return (yield from self._caller.call(exchange, self._deadline(timeout), attempts))

    def _metadata(
        self, version: int | None, label: str | None, timeout: float | None
    ) -> Call[Metadata]:
        exchange = self._wire().metadata(self._context(version, label))
        return (yield from self._caller.call(exchange, self._deadline(timeout)))

    def _ready(self, version: int | None, timeout: float | None) -> Call[bool]:
        try:
            statuses = yield from self._status(version, timeout, attempts=len(self._targets))
        except _PASSING as error:
            if error.is_permanent:
                raise
            return False
        return any(status.state is State.AVAILABLE for status in statuses)

    def _wait_until_ready(self, version: int | None, timeout: float) -> Call[None]:
        deadline = time.monotonic() + checked_seconds("timeout", timeout)
        context = self._context(version, None)
        seen = ""
        while (left := deadline - time.monotonic()) > 0:
            try:
                statuses = yield from self._status(version, min(left, self.timeout), attempts=1)
            except _PASSING as error:
                if error.is_permanent:
                    raise
                # What the end of the wait cut short says less than the answer before it.
                is_cut = isinstance(error, DeadlineExceeded) and left < self.timeout
                if not (seen and is_cut):
                    seen = error.cause
            else:
                if any(status.state is State.AVAILABLE for status in statuses):
                    return
                seen = ", ".join(f"version {status.version} {status.state}" for status in statuses)
                if version is not None and (reason := "".join(row.error for row in statuses)):
                    raise ServerFailed(context, f"version {version} failed to load: {reason}")
            yield Wait(max(0.0, min(_READY_INTERVAL, deadline - time.monotonic())))
        seen = seen or "nothing was asked yet"
        raise DeadlineExceeded(context, f"not AVAILABLE within {timeout:g} s; last seen: {seen}")

    def _context(
        self, version: int | None, label: str | None, signature: str | None = None
    ) -> CallContext:
        if version is not None:
            version = checked_version(version)
        if label is not None:
            label = checked_name("label", label)
        if version is not None and label is not None:
            raise InvalidInput(f"version {version} and label {label!r} given; expected one of them")
        return CallContext(self.url, self.model, version, label, signature)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unreachable(self._context(None, None), CLOSED)

    def _deadline(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else checked_seconds("timeout", timeout)
        return time.monotonic() + seconds
