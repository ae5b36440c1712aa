"""What every client does, free of I/O.

Each verb is a generator. It yields what has to be done next (a `Step`), is sent what came of it, or
has the `CallError` thrown in, and returns the verb's answer. So validation, routing and the
decision whether to try again are written once; the clients of threads and of coroutines do what
they are told.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfserving_client.call.arguments import (
    checked_count,
    checked_headers,
    checked_name,
    checked_seconds,
    checked_version,
)
from tfserving_client.call.caller import Caller, Observe
from tfserving_client.call.coalescing import (
    MOST,
    PATIENCE,
    Gate,
    Question,
    Queue,
    Queues,
    Ticket,
)
from tfserving_client.call.policy import Policy
from tfserving_client.call.steps import Call, Park, Wait
from tfserving_client.call.target import parse
from tfserving_client.call.tls import Tls
from tfserving_client.errors import (
    CLOSED,
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from tfserving_client.results import Label, Metadata, Prediction, Signature, State, VersionStatus
from tfserving_client.serving.parts import Joiner, Part
from tfserving_client.serving.protocols import wire
from tfserving_client.serving.rows import PREDICTIONS, Answers, Rows, Uneven, counted, merged
from tfserving_client.tensors.conversion import as_they_are, conformed
from tfserving_client.tensors.features import checked_examples

SIGNATURE = "serving_default"
READY_TIMEOUT = 60.0  # seconds; a server's start with its warm-up takes a few
_READY_INTERVAL = 0.2  # seconds between two questions whether it is ready
_LOOK_AGAIN = 60.0  # seconds that signatures are remembered where no answer tells its version
_PASSING = (Unreachable, DeadlineExceeded, NotFound, Overloaded)  # while a server starts


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
        observe: called before each attempt; what it returns is entered around the attempt.

    Raises:
        InvalidInput: an argument that cannot be meant.
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
        self._wire = partial(wire, self._targets[0].grpc)
        self._caller = Caller(self._targets, self.policy, all_headers, observe, self._wire)
        # The longest that a call waits for company, in seconds; None merges nothing.
        self._company = None if coalesce is False else 0.0
        if not isinstance(coalesce, bool):
            self._company = checked_seconds("coalesce", coalesce, zero=True)
        # What was asked of which version or label → the signatures that it had.
        self._known: dict[tuple[int | None, str | None], _Known] = {}
        # Connections, made at the first call, by what they belong to: a process, an event loop.
        self._homes: dict[Any, Any] = {}
        self._is_closed = False

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

    def _predict(self, asked: Asked, meeting: Meeting | None) -> Call[Prediction]:
        context, deadline = self._which(asked), self._deadline(asked.timeout)
        if asked.raw:
            rows = Rows(asked.signature, as_they_are(asked.inputs), None, outputs=asked.outputs)
            prediction: Prediction = yield from self._ask(Question(context, rows, deadline))
            return prediction
        was_known = (context.version, context.label) in self._known
        declared = None
        try:
            declared = yield from self._declared(context, deadline)
            question = Question(context, _rows(asked, declared), deadline)
            prediction = yield from self._answer(question, meeting)
        except (InvalidInput, Rejected, BadResponse):
            if not was_known:
                raise
            # A newer version may take what this one does not.
            self._known.pop((context.version, context.label), None)
            newer = yield from self._declared(context, deadline)
            if newer == declared:
                raise
            question = Question(context, _rows(asked, newer), deadline)
            prediction = yield from self._ask(question)
        return prediction

    def _declared(self, context: CallContext, deadline: float) -> Call[Signature]:
        """The signature that the context names, which is asked for once per version."""
        which = (context.version, context.label)
        known = self._known.get(which)
        if known is None or time.monotonic() > known.until:
            metadata = yield from self._caller.call(self._wire().metadata(context), deadline)
            # Over gRPC each answer tells its version; over REST a newer one comes unnoticed.
            is_lasting = context.version is not None or self._targets[0].grpc
            until = math.inf if is_lasting else time.monotonic() + _LOOK_AGAIN
            known = self._known[which] = _Known(metadata, until)
        declared = known.metadata.signatures.get(str(context.signature))
        if declared is None:
            names = ", ".join(
                sorted(name for name in known.metadata.signatures if name[:2] != "__")
            )
            raise InvalidInput(
                f"version {known.metadata.version} of model {self.model!r} has no signature "
                f"{context.signature!r}; it has {names}"
            )
        return declared

    def _answer(self, question: Question, meeting: Meeting | None) -> Call[Any]:
        """Ask, alone or with others that ask the same at the same time."""
        rows = question.batch
        if meeting is None or rows.rows is None or len(rows) >= MOST:
            return self._ask(question)
        return self._ask_in_company(question, meeting)

    def _ask_in_company(self, question: Question, meeting: Meeting) -> Call[Any]:
        """Join the requests of others; see `coalescing`."""
        queue = meeting.queues[question.context]
        ticket = Ticket(question, meeting.gate)
        queue.join(ticket)
        try:
            while ticket.answer is None:
                if ticket.leads:
                    yield from self._lead(ticket, queue)
                elif (left := question.deadline - time.monotonic()) > 0:
                    yield Park(meeting.gate, left)
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
        answers: Sequence[Any] | None = None
        try:
            answers = yield from self._ask_together([ticket.question for ticket in group])
        finally:
            queue.land(ticket, group, answers)

    def _ask_together(self, questions: Sequence[Question]) -> Call[list[Any]]:
        """Ask several questions of one kind as one; one answer or `CallError` for each.

        What the server refuses is asked again by halves: one bad picture costs only itself.
        """
        whole = questions[0]._replace(
            batch=merged([question.batch for question in questions]),
            deadline=min(question.deadline for question in questions),
        )
        try:
            answer = yield from self._ask(whole)
            if len(questions) == 1:
                return [answer]
            sizes = [len(question.batch) for question in questions]
            return whole.batch.answers.split(answer, sizes)  # type: ignore[no-any-return]
        except CallError as error:
            if len(questions) == 1 or not isinstance(error, Rejected):
                return [error] * len(questions)
        except Uneven:
            pass
        half = len(questions) // 2
        first = yield from self._ask_together(questions[:half])
        return first + (yield from self._ask_together(questions[half:]))

    def _ask(self, question: Question) -> Call[Any]:
        """One request and its answer; what the question's rows make of it."""
        context, rows = question.context, question.batch
        exchange = self._wire().predict(context, rows.inputs, rows.outputs, rows.declared)
        prediction = yield from self._caller.call(exchange, question.deadline)
        which = (context.version, context.label)
        if rows.declared and prediction.version not in {None, self._known_version(which)}:
            self._known.pop(which, None)  # to be asked for once more
        return rows.answers.read(context, prediction, len(rows))

    def _known_version(self, which: tuple[int | None, str | None]) -> int | None:
        known = self._known.get(which)
        return known.metadata.version if known else None

    def _ask_part(self, part: Part, flow: Flow) -> Call[list[Any]]:
        """One answer or error for each piece."""
        deadline = self._deadline(flow.timeout)
        questions = [
            Question(flow.which._replace(signature=piece.signature), piece, deadline)
            for piece in part.pieces
            if isinstance(piece, Rows)
        ]
        answers = iter((yield from self._ask_together(questions)) if questions else ())
        return [
            piece if isinstance(piece, InvalidInput) else next(answers) for piece in part.pieces
        ]

    def _preparing(self, asked: Asked) -> Call[Callable[[Any], Rows]]:
        """What makes rows of each item of `predict_many`, once the signature is known."""
        context = self._which(asked)
        if asked.raw:
            return lambda item: Rows(
                asked.signature, as_they_are(item), None, outputs=asked.outputs
            )
        first = yield from self._declared(context, self._deadline(asked.timeout))

        def prepare(item: Any) -> Rows:
            known = self._known.get((context.version, context.label))
            declared = known.metadata.signatures.get(asked.signature) if known else None
            return _rows(asked._replace(inputs=item), declared or first)

        return prepare

    def _flow(
        self,
        answers: Answers,
        items: Any,
        which: CallContext,
        timeout: float | None,
        batch_size: int,
        in_flight: int,
        progress: Callable[[int], None] | None,
        return_exceptions: bool,
    ) -> Flow:
        """The checked arguments of a verb for many."""
        if not isinstance(items, Iterable | AsyncIterable):
            raise InvalidInput(f"items are a {type(items).__name__}; expected an iterable")
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part
        return Flow(
            Joiner(answers, progress, return_exceptions=return_exceptions),
            checked_count("batch_size", batch_size),
            checked_count("in_flight", in_flight),
            which,
            timeout,
        )

    def _classify_examples(
        self,
        examples: Any,
        signature: str,
        version: int | None,
        label: str | None,
        timeout: float | None,
    ) -> Call[list[list[Label]]]:
        context = self._context(version, label, checked_name("signature", signature))
        exchange = self._wire().classify(context, checked_examples(examples))
        return (yield from self._caller.call(exchange, self._deadline(timeout)))

    def _regress_examples(
        self,
        examples: Any,
        signature: str,
        version: int | None,
        label: str | None,
        timeout: float | None,
    ) -> Call[NDArray[np.float32]]:
        context = self._context(version, label, checked_name("signature", signature))
        exchange = self._wire().regress(context, checked_examples(examples))
        return (yield from self._caller.call(exchange, self._deadline(timeout)))

    def _which(self, asked: Asked) -> CallContext:
        signature = checked_name("signature", asked.signature)
        return self._context(asked.version, asked.label, signature)

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


class Asked(NamedTuple):
    """The arguments of `predict`, as they came."""

    inputs: Any
    signature: str
    outputs: tuple[str, ...]
    version: int | None
    label: str | None
    timeout: float | None
    raw: bool


class Flow(NamedTuple):
    """How many items become requests, and answers.

    Attributes:
        joiner: puts the answers together.
        size: rows in one request, at most.
        in_flight: requests under way at once.
        which: the model, and its version or label.
        timeout: seconds for each request; None: the client's.
    """

    joiner: Joiner
    size: int
    in_flight: int
    which: CallContext
    timeout: float | None


class Meeting(NamedTuple):
    """Where a caller may meet others, and the gate that it waits behind."""

    queues: Queues
    gate: Gate


class _Known(NamedTuple):
    metadata: Metadata
    until: float  # on the clock of `time.monotonic`


def asked(
    inputs: Any,
    signature: str,
    outputs: str | Sequence[str] | None,
    version: int | None,
    label: str | None,
    timeout: float | None,
    raw: bool,
) -> Asked:
    """The arguments of `predict`, checked as far as they can be without the signature."""
    if isinstance(outputs, str):
        outputs = [outputs]
    wanted = tuple(dict.fromkeys(checked_name("output", name) for name in outputs or ()))
    return Asked(inputs, signature, wanted, version, label, timeout, raw)


def _rows(asked: Asked, declared: Signature) -> Rows:
    if unknown := [name for name in asked.outputs if name not in declared.outputs]:
        raise InvalidInput(
            f"signature {asked.signature!r} has no output {unknown[0]!r}; it gives "
            f"{', '.join(sorted(declared.outputs))}"
        )
    inputs = conformed(asked.signature, declared, asked.inputs)
    rows = counted(inputs, declared)
    return Rows(asked.signature, inputs, rows, PREDICTIONS, asked.outputs, declared)
