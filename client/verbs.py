"""The verbs, free of I/O.

Each is a generator. It yields what has to be done next (a `Step`), is sent what came of it, or has
the `CallError` thrown in, and returns the verb's answer. So validation, routing and the decision
whether to try again are written once; `DigitClient` and `AsyncDigitClient` do what they are told.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from client.arguments import (
    checked_count,
    checked_headers,
    checked_name,
    checked_seconds,
    checked_version,
)
from client.calling import Calling, Observe
from client.classification import classification, split
from client.coalescing import PATIENCE, Gate, Question, Queue, Queues, Ticket
from client.errors import (
    CLOSED,
    CallContext,
    CallError,
    DeadlineExceeded,
    DigitsError,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from client.images import Batch, merged, prepare
from client.parts import Joiner, Part, Splitter
from client.policy import Policy
from client.results import Classification, Metadata, State, VersionStatus
from client.steps import Call, Park, Wait
from client.target import parse
from client.tls import Tls

READY_TIMEOUT = 60.0  # seconds; a server's start with its warm-up takes a few
_READY_INTERVAL = 0.2  # seconds between two questions whether it is ready
_LOOK_AGAIN = 60.0  # seconds; a newer version may have what this one lacks
_PASSING = (Unreachable, DeadlineExceeded, NotFound, Overloaded)  # while a server starts


class Verbs:
    """Everything about a client but its I/O.

    Args:
        url: where the server is; see `client.target`. Several hosts share the load.
        model: the model's name on the server.
        timeout: seconds for a call, instead of the policy's.
        policy: how calls are tried again.
        coalesce: merge the calls of threads or coroutines that ask the same at the same time. True:
            a call waits while the one before it is under way, and if that was a merged one, up to
            `coalescing.PATIENCE` for as many callers. A number: always that many seconds.
        api_key: sent as the header (or gRPC metadata) `x-api-key`.
        headers: further headers or metadata for every request.
        tls: certificates for grpcs:// and https://; without it the system's authorities.
        observe: called before each attempt; what it returns is entered around the attempt.

    Raises:
        InvalidInput: an argument that cannot be meant.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "mnist",
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
            raise InvalidInput(f"policy is a {type(policy).__name__}; expected a Policy")
        if not (observe is None or callable(observe)):
            raise InvalidInput(f"observe is a {type(observe).__name__}; expected a function")
        self.policy = policy or Policy()
        if timeout is not None:
            self.policy = replace(self.policy, timeout=checked_seconds("timeout", timeout))
        self._targets = parse(url, tls)
        all_headers = checked_headers({} if headers is None else headers)
        if api_key is not None:
            all_headers |= checked_headers({"x-api-key": api_key})
        # The longest that a call waits for company, in seconds; None merges nothing.
        self._company = None if coalesce is False else 0.0
        if not isinstance(coalesce, bool):
            self._company = checked_seconds("coalesce", coalesce, zero=True)
        self._calling = Calling(self._targets, self.policy, all_headers, observe)
        # Versions and labels whose model lacks the faster signature → when to look again.
        self._slower: dict[tuple[int | None, str | None], float] = {}
        # Connections, made at the first call, by what they belong to: a process, an event loop.
        self._homes: dict[Any, Any] = {}
        self._is_closed = False

    @property
    def timeout(self) -> float:
        """Seconds that a call may take, unless the call says otherwise."""
        return self.policy.timeout

    def _question(
        self, images: Any, version: int | None, label: str | None, timeout: float | None
    ) -> Question:
        batch = prepare(images)
        context = self._context(version, label, batch.signature)
        return Question(context, batch, self._deadline(timeout))

    def _classify_in_company(
        self, question: Question, queues: Queues, gate: Gate
    ) -> Call[Classification]:
        """Join the requests of others that ask the same at the same time; see `coalescing`."""
        queue = queues[question.context]
        ticket = Ticket(question, gate)
        queue.join(ticket)
        try:
            while ticket.answer is None:
                if ticket.leads:
                    yield from self._lead(ticket, queue)
                elif (left := question.deadline - time.monotonic()) > 0:
                    yield Park(gate, left)
                else:
                    raise DeadlineExceeded(question.context, "no answer in time")
        finally:
            queue.leave(ticket)
        if isinstance(ticket.answer, CallError):
            raise ticket.answer
        return ticket.answer

    def _lead(self, ticket: Ticket, queue: Queue) -> Call[None]:
        left = max(0.0, ticket.question.deadline - time.monotonic())
        if self._company:
            yield Wait(min(self._company, left))
        elif queue.should_gather(ticket):
            yield Park(ticket.gate, min(PATIENCE, left))
        group = queue.take(ticket)
        answers: Sequence[Classification | CallError] | None = None
        try:
            answers = yield from self._classify_together([ticket.question for ticket in group])
        finally:
            queue.land(ticket, group, answers)

    def _classify_part(
        self, part: Part, which: CallContext, timeout: float | None
    ) -> Call[list[Classification | DigitsError]]:
        """One answer or error for each piece of a part of `classify_many`."""
        deadline = self._deadline(timeout)
        questions = [
            Question(which._replace(signature=piece.signature), piece, deadline)
            for piece in part.pieces
            if isinstance(piece, Batch)
        ]
        answers = iter((yield from self._classify_together(questions)) if questions else ())
        return [
            piece if isinstance(piece, InvalidInput) else next(answers) for piece in part.pieces
        ]

    def _classify(self, question: Question) -> Call[Classification]:
        context, batch, deadline = question.context, question.batch, question.deadline
        which = (context.version, context.label)
        may_be_faster = time.monotonic() >= self._slower.get(which, 0.0)
        if may_be_faster and (faster := self._calling.wire.faster(batch)):
            try:
                return (yield from self._predict(context, faster, deadline))
            except Rejected as error:
                if f'"{faster.signature}" not found' not in error.server_text:
                    raise
                self._slower[which] = time.monotonic() + _LOOK_AGAIN
        return (yield from self._predict(context, batch, deadline))

    def _predict(self, context: CallContext, batch: Batch, deadline: float) -> Call[Classification]:
        if context.signature != batch.signature:
            context = context._replace(signature=batch.signature)
        exchange = self._calling.wire.predict(context, batch)
        prediction = yield from self._calling.call(exchange, deadline)
        return classification(context, prediction, len(batch))

    def _classify_together(
        self, questions: Sequence[Question]
    ) -> Call[list[Classification | CallError]]:
        """Ask several questions of the same context as one; one answer or error for each.

        What the server refuses is asked again by halves: one bad picture costs only itself.
        """
        whole = questions[0]._replace(
            batch=merged([question.batch for question in questions]),
            deadline=min(question.deadline for question in questions),
        )
        try:
            answer = yield from self._classify(whole)
        except CallError as error:
            if len(questions) == 1 or not isinstance(error, Rejected):
                return [error] * len(questions)
            half = len(questions) // 2
            first = yield from self._classify_together(questions[:half])
            return first + (yield from self._classify_together(questions[half:]))
        return [*split(answer, [len(question.batch) for question in questions])]

    def _flow(
        self,
        items: Any,
        batch_size: int,
        in_flight: int,
        progress: Callable[[int], None] | None,
        return_exceptions: bool,
    ) -> tuple[Splitter, Joiner, int]:
        """The checked arguments of `classify_many`, as what takes items apart and together."""
        if not isinstance(items, Iterable | AsyncIterable):
            raise InvalidInput(f"items are a {type(items).__name__}; expected an iterable")
        return (
            Splitter(checked_count("batch_size", batch_size)),
            Joiner(progress, return_exceptions=return_exceptions),
            checked_count("in_flight", in_flight),
        )

    def _status(
        self, version: int | None, timeout: float | None, attempts: int | None = None
    ) -> Call[tuple[VersionStatus, ...]]:
        exchange = self._calling.wire.status(self._context(version, None))
        return (yield from self._calling.call(exchange, self._deadline(timeout), attempts))

    def _metadata(
        self, version: int | None, label: str | None, timeout: float | None
    ) -> Call[Metadata]:
        exchange = self._calling.wire.metadata(self._context(version, label))
        return (yield from self._calling.call(exchange, self._deadline(timeout)))

    def _ready(self, version: int | None, timeout: float | None) -> Call[bool]:
        try:
            statuses = yield from self._status(version, timeout, attempts=len(self._targets))
        except _PASSING:
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
                # What the end of the wait cut short says less than the answer before it.
                is_cut = isinstance(error, DeadlineExceeded) and left < self.timeout
                if not (seen and is_cut):
                    seen = error.server_text
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
