"""One call: by which server, with how much time, and whether it is tried again. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tfserving_client.call.arguments import Headers, checked_headers
from tfserving_client.call.endpoints import Endpoints
from tfserving_client.call.exchange import Answer, Exchange, Wire
from tfserving_client.call.policy import Budget, Policy
from tfserving_client.call.steps import Call, Hedge, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.errors import (
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    NotFound,
    Unreachable,
)
from tfserving_client.results import State, VersionStatus

_FAIR = 1.0  # seconds in which a server can be expected to answer
_SOON = {State.START, State.LOADING}


class Attempt(NamedTuple):
    """What an `observe` hook is told, before each attempt.

    Attributes:
        context: what is asked of whom.
        method: a gRPC method's full path, or an HTTP verb and path.
        number: 1 for a call's first attempt.
        headers: sent with the request; a tracer may add its own.
    """

    context: CallContext
    method: str
    number: int
    headers: Headers


Observe = Callable[[Attempt], AbstractContextManager[object]]


class Caller:
    """Makes the calls of one client.

    Args:
        targets: the servers, which share the calls.
        policy: when a call is tried again.
        headers: sent with every request.
        observe: called before each attempt; returns a context manager that encloses the attempt.
        wire: makes the question whether what was not found is loading.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        policy: Policy,
        headers: Headers,
        observe: Observe | None,
        wire: Callable[[], Wire],
    ) -> None:
        self._targets, self._policy = targets, policy
        self._headers, self._observe, self._wire = headers, observe, wire
        self._endpoints = Endpoints(len(targets))
        self._budget = Budget(policy)

    def call(
        self, exchange: Exchange[Answer], deadline: float, attempts: int | None = None
    ) -> Call[Answer]:
        """One call, tried again as the policy says."""
        attempts = self._policy.attempts if attempts is None else attempts
        waits: Iterator[float] | None = None
        tried: list[int] = []
        earlier: CallError | None = None
        self._budget.earn()
        while True:
            number = self._endpoints.choose(tried)
            tried.append(number)
            left = max(deadline - time.monotonic(), 0.001)
            try:
                if self._observe is None:
                    answer: Answer = yield self._step(exchange, tried, left, self._headers)
                else:
                    answer = yield from self._observed(self._observe, exchange, tried, left)
            except CallError as error:
                error.attempts = len(tried)
                if len(self._targets) > 1:
                    error.context = error.context._replace(endpoint=self._targets[number].url)
                self._credit(number, error, left)
                if not isinstance(error, DeadlineExceeded):
                    earlier = error
                elif earlier:  # that time ran out in the end is not what went wrong
                    error.cause += f"; before that: {earlier.cause}"
                    error.server_text += f"; before that: {earlier.server_text}"
                left = deadline - time.monotonic()
                if len(tried) >= attempts or left <= 0:
                    raise
                waits = waits or self._policy.waits()
                wait = yield from self._wait_before_retry(error, tried, waits, left)
                # Written so that a wait that is NaN, as a server may ask for, is none, too.
                if wait is None or not wait < deadline - time.monotonic():
                    raise
                if wait:
                    yield Wait(wait)
            else:
                self._endpoints.worked(number)
                return answer

    def _credit(self, number: int, error: CallError, left: float) -> None:
        # A caller in a hurry says nothing about the server.
        had_time = left >= 0.9 * min(self._policy.timeout, _FAIR)  # some of it has passed already
        if isinstance(error, (Unreachable, BadResponse)) or (
            isinstance(error, DeadlineExceeded) and had_time
        ):
            self._endpoints.failed(number)
        elif not isinstance(error, DeadlineExceeded):
            self._endpoints.worked(number)

    def _observed(
        self, observe: Observe, exchange: Exchange[Answer], tried: list[int], left: float
    ) -> Call[Answer]:
        attempt = Attempt(exchange.context, exchange.method, len(tried), Headers(self._headers))
        with observe(attempt):
            headers = checked_headers(attempt.headers)
            answer: Answer = yield self._step(exchange, tried, left, headers)
            return answer
        raise RuntimeError("what observe returned swallowed the call's error; it must let it pass")

    def _step(
        self, exchange: Exchange[Any], tried: list[int], left: float, headers: Headers
    ) -> Step:
        limit = min(left, self._policy.attempt_timeout or left)
        send = Send(tried[-1], exchange, limit, headers)
        delay = self._policy.hedge_after
        if delay is None or delay >= limit:
            return send
        spare = self._endpoints.spare(tried)
        second = send._replace(endpoint=spare, timeout=limit - delay)
        return Hedge(send, second, delay, self._budget.spend)

    def _wait_before_retry(
        self, error: CallError, tried: list[int], waits: Iterator[float], left: float
    ) -> Call[float | None]:
        """Seconds to wait before this is tried again; None: it is not."""
        elsewhere = self._endpoints.has_fresh(tried)
        if isinstance(error, Unreachable) and elsewhere:
            return 0.0  # moves load and adds none, so it is not held against the budget
        may_pass = not error.is_permanent and (
            error.transient
            or isinstance(error, DeadlineExceeded)  # only this attempt's: time is left
            or (isinstance(error, BadResponse) and elsewhere)
            or (isinstance(error, NotFound) and (yield from self._is_loading(error, tried, left)))
        )
        if not (may_pass and self._budget.spend()):
            return None
        if error.retry_after is not None:
            return error.retry_after
        return 0.0 if elsewhere else next(waits)

    def _is_loading(self, error: NotFound, tried: list[int], left: float) -> Call[bool]:
        """Whether what was not found is on its way; a server that starts says NOT_FOUND, too."""
        asked = error.context
        if asked.signature is None:  # not a prediction
            return False
        exchange = self._wire().status(asked._replace(label=None, signature=None))
        try:
            statuses: Sequence[VersionStatus] = yield Send(tried[-1], exchange, left, self._headers)
        except CallError:
            return False
        return any(status.state in _SOON for status in statuses)
