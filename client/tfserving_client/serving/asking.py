"""Requests for rows of inputs: alone, together with those of other callers, or in parts. No I/O."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tfserving_client.call.arguments import checked_count, typed
from tfserving_client.call.coalescing import (
    MOST,
    PATIENCE,
    Meeting,
    Question,
    Queue,
    Ticket,
)
from tfserving_client.call.steps import Call, Meet, Park, Wait
from tfserving_client.errors import (
    CallContext,
    DeadlineExceeded,
    InvalidInput,
    Rejected,
    ServingError,
)
from tfserving_client.serving.parts import Joiner, Part
from tfserving_client.serving.rows import Answers, Rows, Uneven, merged
from tfserving_client.serving.verbs import Verbs


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


class Asking(Verbs):
    """What verbs with rows of inputs have in common; the arguments are those of `Verbs`."""

    def _answer(self, question: Question) -> Call[Any]:
        """Ask, alone or with others that ask the same at the same time."""
        rows = question.batch
        if self._company is None or rows.rows is None or rows.rows >= MOST:
            return self._ask(question)
        return self._ask_in_company(question)

    def _ask_in_company(self, question: Question) -> Call[Any]:
        """Join the requests of others; see `coalescing`."""
        meeting: Meeting = yield Meet()
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
        if isinstance(ticket.answer, ServingError):
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
        """Ask several questions of one kind as one; one answer or error for each.

        What is refused is asked again by halves: one bad picture costs only itself.
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
        except ServingError as error:
            if len(questions) == 1 or not isinstance(error, Rejected | InvalidInput):
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
        return rows.answers.read(context, prediction, len(rows))

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
            piece if isinstance(piece, ServingError) else next(answers) for piece in part.pieces
        ]

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
            raise InvalidInput(f"items are {typed(items)}; expected an iterable")
        self._deadline(timeout)  # refuses what is no timeout now, not at the first part
        return Flow(
            Joiner(answers, progress, return_exceptions=return_exceptions),
            checked_count("batch_size", batch_size),
            checked_count("in_flight", in_flight),
            which,
            timeout,
        )
