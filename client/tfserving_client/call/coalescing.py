"""Many callers, one request: who waits, who sends, and who gets which answer. No I/O.

Callers that ask the same model, version or label, and signature share a queue. A caller that finds
no request under way leads: it sends one for itself and for all that wait by then. Callers that come
later wait; when the answer arrives, one of them leads the next request. If the last request had
several callers, the leader waits up to `PATIENCE` for as many to come back. So a single caller
never waits for others, and there is no thread or task in the background.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tfserving_client.errors import CallContext, DeadlineExceeded

MOST = 256  # rows in one merged request
_EARLY = 0.01  # seconds; transports may give up a little before the deadline
PATIENCE = 0.001  # seconds that a leader waits for the callers of the last request


class Question(NamedTuple):
    """A checked call; `deadline` is on the clock of `time.monotonic`."""

    context: CallContext
    batch: Any  # has as its length the rows that it adds to a request, of one `kind`
    deadline: float


class Gate(Protocol):
    """What a waiting caller stands behind: a lock of threads, or a semaphore of coroutines."""

    def locked(self) -> bool:
        """Whether the caller could not go on."""

    def release(self) -> None:
        """Let the caller go on."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A caller that waits. Released when it has an answer, or leads."""

    question: Question
    gate: Gate
    answer: Any = None  # or the `CallError` instead
    leads: bool = False
    has_left: bool = False

    def wake(self) -> None:
        """Release it, unless it was before and has not noticed yet."""
        if self.gate.locked():
            self.gate.release()


class Queue:
    """Callers that wait with the same context, in order; only those of one kind are merged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Ticket] = deque()
        self._is_under_way = False
        self._last = 1  # callers of the last request
        self._gathering: Ticket | None = None

    def join(self, ticket: Ticket) -> None:
        """Wait, or lead at once if no request is under way."""
        with self._lock:
            if not self._is_under_way:
                self._is_under_way = True
                ticket.leads = True
                return
            self._waiting.append(ticket)
            if self._gathering and len(self._waiting) >= self._last - 1:
                self._gathering.wake()
                self._gathering = None

    def should_gather(self, leader: Ticket) -> bool:
        """Whether the leader should wait a moment; it is woken when as many wait as last time."""
        with self._lock:
            if len(self._waiting) >= self._last - 1:
                return False
            self._gathering = leader
            return True

    def take(self, leader: Ticket) -> list[Ticket]:
        """The leader and those of its kind with about as much time, `MOST` rows at most.

        A request ends at its earliest deadline: a caller in a hurry would cut short the others.
        """
        group, rows = [leader], len(leader.question.batch)
        now = time.monotonic()
        left = leader.question.deadline - now
        kind = leader.question.batch.kind
        with self._lock:
            if self._gathering is leader:
                self._gathering = None
            others, self._waiting = self._waiting, deque()
            for ticket in others:
                more = rows + len(ticket.question.batch)
                has_time = left / 2 <= ticket.question.deadline - now <= left * 2
                if more <= MOST and has_time and ticket.question.batch.kind == kind:
                    group.append(ticket)
                    rows = more
                else:
                    self._waiting.append(ticket)
            self._last = len(group)
        return group

    def land(
        self,
        leader: Ticket,
        group: Sequence[Ticket],
        answers: Sequence[Any] | None,
    ) -> None:
        """Hand out the answers; None: the leader was interrupted, and the others ask again.

        A request ends at its earliest caller's deadline. The others wait once more.
        """
        now = time.monotonic()
        was_cut_short = now > min(t.question.deadline for t in group) - _EARLY
        with self._lock:
            for i, ticket in enumerate(group):
                answer = answers[i] if answers else None
                if isinstance(answer, DeadlineExceeded) and was_cut_short:
                    answer = answer if now >= ticket.question.deadline else None
                ticket.answer = answer
                asks_again = answer is None and (answers or ticket is not leader)
                if asks_again and not ticket.has_left:
                    self._waiting.append(ticket)
            leader.leads = False
            self._pass_on()
        for ticket in group:
            if ticket.answer is not None and ticket is not leader:
                ticket.wake()

    def leave(self, ticket: Ticket) -> None:
        """Stop waiting; a caller that led lets another one lead."""
        if ticket.answer is not None:
            return
        with self._lock:
            ticket.has_left = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.leads:
                ticket.leads = False
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            following = self._waiting.popleft()
            following.leads = True
            following.wake()
        else:
            self._is_under_way = False


# By what is asked of which version. Two threads that make the same one at once lose nothing: one
# that is replaced serves those who are in it.
Queues = defaultdict[CallContext, Queue]


class Meeting(NamedTuple):
    """Where a caller may meet others, and the gate that it waits behind."""

    queues: Queues
    gate: Gate
