"""What clients of digit models do besides, free of I/O; see `tfserving_client.serving.verbs`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

from tfserving_client.call.arguments import checked_count, checked_seconds
from tfserving_client.call.caller import Observe
from tfserving_client.call.coalescing import PATIENCE, Gate, Question, Queue, Queues, Ticket
from tfserving_client.call.policy import Policy
from tfserving_client.call.steps import Call, Park, Wait
from tfserving_client.call.tls import Tls
from tfserving_client.digits.classification import Classification, classification, split
from tfserving_client.digits.images import Batch, merged, packed, prepare
from tfserving_client.digits.parts import Joiner, Part, Splitter
from tfserving_client.errors import (
    CallContext,
    CallError,
    DeadlineExceeded,
    InvalidInput,
    Rejected,
    ServingError,
)
from tfserving_client.serving.verbs import Verbs

_LOOK_AGAIN = 60.0  # seconds; a newer version may have what this one lacks


class DigitVerbs(Verbs):
    """Everything about a client of a digit model but its I/O.

    The arguments are those of `Verbs`, and one more.

    Args:
        coalesce: merge the calls of threads or coroutines that ask the same at the same time. True:
            a call waits while the one before it is under way, and if that was a merged one, up to
            `coalescing.PATIENCE` for as many callers. A number: always that many seconds.

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
        super().__init__(
            url,
            model=model,
            timeout=timeout,
            policy=policy,
            api_key=api_key,
            headers=headers,
            tls=tls,
            observe=observe,
        )
        # The longest that a call waits for company, in seconds; None merges nothing.
        self._company = None if coalesce is False else 0.0
        if not isinstance(coalesce, bool):
            self._company = checked_seconds("coalesce", coalesce, zero=True)
        # Versions and labels whose model lacks the faster signature → when to look again.
        self._slower: dict[tuple[int | None, str | None], float] = {}

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
        answer: Classification | CallError = ticket.answer
        if isinstance(answer, CallError):
            raise answer
        return answer

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
    ) -> Call[list[Classification | ServingError]]:
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
        if may_be_faster and (faster := self._faster(batch)):
            try:
                return (yield from self._predict(context, faster, deadline))
            except Rejected as error:
                if f'"{faster.signature}" not found' not in error.server_text:
                    raise
                self._slower[which] = time.monotonic() + _LOOK_AGAIN
        return (yield from self._predict(context, batch, deadline))

    def _faster(self, batch: Batch) -> Batch | None:
        # Over gRPC nothing is faster than raw bytes.
        return None if self._targets[0].grpc else packed(batch)

    def _predict(self, context: CallContext, batch: Batch, deadline: float) -> Call[Classification]:
        if context.signature != batch.signature:
            context = context._replace(signature=batch.signature)
        exchange = self._wire().predict(context, batch.inputs)
        prediction = yield from self._caller.call(exchange, deadline)
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
