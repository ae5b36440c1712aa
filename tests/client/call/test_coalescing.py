from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.client.memory import (
    AsyncInMemory,
    Clock,
    Fake,
    InMemory,
    answer,
    answers,
    asked,
    fails,
    numbers,
    picture,
    predicted,
)
from tfserving_client import (
    CallContext,
    CallError,
    Classification,
    DeadlineExceeded,
    Overloaded,
    Policy,
    Rejected,
    Unreachable,
)
from tfserving_client.call.coalescing import MOST, Question, Queue, Ticket
from tfserving_client.call.exchange import Exchange
from tfserving_client.digits.verbs import ready

CONTEXT = CallContext("grpc://a", "mnist", signature="serving_default")
ANSWER = Classification(np.zeros(1, np.int64), np.zeros((1, 10), np.float32), 7)
LATE = DeadlineExceeded(CONTEXT, "late")


def _ticket(*, images: int = 1, until: float = 1e9) -> Ticket:
    gate = threading.Lock()
    gate.acquire()
    batch = ready(np.zeros((images, 28, 28), np.uint8))
    return Ticket(Question(CONTEXT, batch, until), gate)


def _may_go_on(ticket: Ticket) -> bool:
    return ticket.gate.acquire(blocking=False)  # type: ignore[attr-defined, no-any-return]


def _joined(queue: Queue, *tickets: Ticket) -> list[Ticket]:
    for ticket in tickets:
        queue.join(ticket)
    return [*tickets]


def _busy() -> tuple[Queue, Ticket]:
    """A queue with a request under way, and its leader."""
    queue = Queue()
    (leader,) = _joined(queue, _ticket())
    assert queue.take(leader) == [leader]
    return queue, leader


def _land(queue: Queue, group: list[Ticket]) -> None:
    queue.land(group[0], group, [ANSWER] * len(group))


def _is_idle(queue: Queue) -> bool:
    """Nobody waits, and who comes may lead."""
    (newcomer,) = _joined(queue, _ticket())
    alone = newcomer.leads and queue.take(newcomer) == [newcomer]
    _land(queue, [newcomer])
    return alone


def test_others_wait_for_the_first_to_land() -> None:
    queue, first = _busy()
    third, fourth = _joined(queue, _ticket(), _ticket())
    assert (first.leads, third.leads, fourth.leads) == (True, False, False)
    _land(queue, [first])
    assert (third.leads, fourth.leads) == (True, False)
    assert _may_go_on(third)
    assert not _may_go_on(fourth)
    group = queue.take(third)
    assert group == [third, fourth]
    _land(queue, group)
    assert third.answer is fourth.answer is ANSWER
    assert _may_go_on(fourth)
    assert _is_idle(queue)


def test_callers_in_a_hurry_do_not_go_with_those_who_have_time(clock: Clock) -> None:
    """The request would end, and its attempts, with the least time of all."""
    queue, first = _busy()
    tickets = _joined(queue, *(_ticket(until=clock.now + i) for i in (10, 1, 6, 0.6, -1)))
    _land(queue, [first])
    for group in (tickets[::2][:2], tickets[1::2], tickets[4:]):
        assert queue.take(group[0]) == group
        _land(queue, group)
    assert _is_idle(queue)


def test_a_request_never_exceeds_the_most() -> None:
    queue, first = _busy()
    sizes = [100, 100, MOST - 100, 50, 6]
    tickets = _joined(queue, *(_ticket(images=size) for size in sizes))
    _land(queue, [first])
    taken = queue.take(tickets[0])
    assert [len(ticket.question.batch) for ticket in taken] == [100, 100, 50, 6]
    assert sum(len(ticket.question.batch) for ticket in taken) == MOST
    _land(queue, taken)
    assert queue.take(tickets[2]) == [tickets[2]]
    _land(queue, [tickets[2]])
    assert _is_idle(queue)


def test_an_interrupted_leader_lets_the_others_ask_again() -> None:
    queue, first = _busy()
    waiting = _joined(queue, *(_ticket() for _ in range(3)))
    _land(queue, [first])
    leader, *others = queue.take(waiting[0])
    queue.land(leader, [leader, *others], None)
    queue.leave(leader)
    assert [ticket.leads for ticket in waiting] == [False, True, False]
    assert _may_go_on(others[0])
    group = queue.take(others[0])
    assert group == others
    _land(queue, group)
    assert _is_idle(queue)


def test_a_leader_interrupted_before_it_took_anyone_passes_on() -> None:
    queue, first = _busy()
    (third,) = _joined(queue, _ticket())
    queue.leave(first)
    assert third.leads
    assert _may_go_on(third)
    queue.leave(third)
    assert _is_idle(queue)


@pytest.mark.parametrize("outcome", [[ANSWER] * 2, [LATE] * 2, None])
def test_who_left_while_its_request_was_under_way_is_not_waited_for(
    clock: Clock, outcome: list[Classification | CallError] | None
) -> None:
    queue, first = _busy()
    third, fourth = _joined(queue, _ticket(until=clock.now + 5), _ticket(until=clock.now + 9))
    _land(queue, [first])
    group = queue.take(third)
    queue.leave(fourth)
    clock.now += 5
    queue.land(third, group, outcome)
    queue.leave(third)
    assert not fourth.leads
    assert _is_idle(queue)


def test_who_leaves_while_waiting_is_not_asked_for() -> None:
    queue, first = _busy()
    third, fourth = _joined(queue, _ticket(), _ticket())
    queue.leave(third)
    _land(queue, [first])
    assert queue.take(fourth) == [fourth]
    _land(queue, [fourth])
    assert _is_idle(queue)


def test_who_is_made_leader_just_as_it_leaves_passes_on() -> None:
    queue, first = _busy()
    third, fourth = _joined(queue, _ticket(), _ticket())
    _land(queue, [first])
    assert third.leads
    queue.leave(third)
    assert (third.leads, fourth.leads) == (False, True)
    assert _may_go_on(fourth)
    queue.leave(fourth)
    assert _is_idle(queue)


def test_the_earliest_deadline_ends_a_request_and_the_others_ask_again(clock: Clock) -> None:
    queue, first = _busy()
    early, late = clock.now + 3, clock.now + 5
    tickets = _joined(queue, _ticket(until=late), _ticket(until=early), _ticket(until=late))
    _land(queue, [first])
    group = queue.take(tickets[0])
    clock.now = early
    queue.land(group[0], group, [LATE] * 3)
    assert [ticket.answer for ticket in tickets] == [None, LATE, None]
    assert _may_go_on(tickets[1])
    assert sorted(ticket.leads for ticket in tickets) == [False, False, True]
    (leader,) = [ticket for ticket in tickets if ticket.leads]
    group = queue.take(leader)
    assert set(map(id, group)) == {id(tickets[0]), id(tickets[2])}
    clock.now = late
    queue.land(leader, group, [LATE] * 2)
    assert [ticket.answer for ticket in tickets] == [LATE] * 3


def test_an_attempt_that_took_too_long_is_everybodys_answer(clock: Clock) -> None:
    """Else those who wait would ask on and on, whatever the policy says."""
    queue, first = _busy()
    group = _joined(queue, *(_ticket(until=clock.now + i) for i in (5, 6)))
    _land(queue, [first])
    clock.now += 1
    queue.land(group[0], queue.take(group[0]), [LATE] * 2)
    assert [ticket.answer for ticket in group] == [LATE] * 2


def test_a_leader_whose_request_is_cut_short_twice_is_released_twice(clock: Clock) -> None:
    """It does not stand behind its gate the second time."""
    queue, first = _busy()
    (leader,) = _joined(queue, _ticket(until=clock.now + 9))
    _land(queue, [first])
    for seconds in (5, 2):
        (hasty,) = _joined(queue, _ticket(until=clock.now + seconds))
        group = queue.take(leader)
        assert group == [leader, hasty]
        clock.now += seconds
        queue.land(leader, group, [LATE] * 2)
        assert leader.leads
        assert leader.answer is None
    queue.leave(leader)
    assert _is_idle(queue)


@pytest.mark.parametrize("kind", [Rejected, Unreachable, Overloaded])
def test_errors_other_than_the_deadline_are_everybodys_answer(
    clock: Clock, kind: type[CallError]
) -> None:
    queue, first = _busy()
    group = _joined(queue, *(_ticket(until=clock.now + i) for i in (3, 5)))
    _land(queue, [first])
    error = kind(CONTEXT, "no")
    taken = queue.take(group[0])
    clock.now += 4
    queue.land(group[0], taken, [error] * 2)
    assert [ticket.answer for ticket in group] == [error] * 2


def test_waiting_for_company_ends_at_the_callers_own_deadline(clock: Clock) -> None:
    with Fake(clock, answers, coalesce=5) as digits:
        digits.classify(picture(1), timeout=2)
        digits.classify(picture(1), timeout=20)
        assert digits.waits == [2, 5]


def test_a_leader_gathers_as_many_as_last_time_and_a_lone_one_nobody() -> None:
    queue, first = _busy()
    assert not queue.should_gather(first)  # alone the last time
    group = _joined(queue, _ticket(), _ticket(), _ticket())
    _land(queue, [first])
    assert not queue.should_gather(group[0])  # the others wait already
    assert queue.take(group[0]) == group
    _land(queue, group)
    (leader,) = _joined(queue, _ticket())
    assert queue.should_gather(leader)
    company = _joined(queue, _ticket())
    assert not _may_go_on(leader)
    company += _joined(queue, _ticket())
    assert _may_go_on(leader)
    assert queue.take(leader) == [leader, *company]
    _land(queue, [leader, *company])
    assert _is_idle(queue)


class _Gated:
    """Answers as a server does, but lets nobody through until enough callers ask."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, exchange: Exchange[Any]) -> Any:
        assert self.open.wait(30)
        return answer(exchange)


def _merged(*pictures: Any, refuse: Iterable[int] = ()) -> tuple[list[Any], list[list[int]]]:
    """What callers get who all wait while another's request is under way; the requests."""
    gated = _Gated()
    refused = set(refuse)

    def behaviour(exchange: Exchange[Any]) -> Any:
        found = gated(exchange)
        if refused & set(asked(exchange)):
            raise Rejected(exchange.context, "bad picture")
        return found

    def ask(images: Any) -> Any:
        try:
            return numbers(digits.classify(images).probabilities)
        except CallError as error:
            return type(error)

    with InMemory(behaviour, coalesce=True, timeout=120) as digits:
        (transport,) = digits.transports
        with ThreadPoolExecutor(len(pictures) + 1) as pool:
            first = pool.submit(ask, picture(1000))
            callers = []
            while not transport.sent:
                pass
            (queue,) = digits._here().queues.values()
            for i, images in enumerate(pictures):
                while len(queue._waiting) < i:
                    pass
                callers.append(pool.submit(ask, images))
            while len(queue._waiting) < len(pictures):
                pass
            gated.open.set()
            found = [caller.result(30) for caller in callers]
            assert first.result(30) == [1000]
        assert _is_idle(queue)
    return found, [asked(exchange) for exchange in transport.sent[1:]]


def test_everyone_who_waits_goes_with_the_next_request_and_gets_its_own_answer() -> None:
    batches = [[1], [2, 3], [4], [5, 6, 7]]
    found, sent = _merged(*(np.array([*map(picture, batch)]) for batch in batches))
    assert found == batches
    assert sent == [[1, 2, 3, 4, 5, 6, 7]]


def test_one_bad_picture_costs_only_itself() -> None:
    found, sent = _merged(*map(picture, (1, 2, 3)), refuse={2})
    assert found == [[1], Rejected, [3]]
    assert sent == [[1, 2, 3], [1], [2, 3], [2], [3]]


def test_a_bad_picture_among_many_is_found_by_halves() -> None:
    found, sent = _merged(*map(picture, range(64)), refuse={40})
    assert found == [Rejected if i == 40 else [i] for i in range(64)]
    assert len(sent) == 1 + 2 * 6


@pytest.mark.parametrize(
    "other", [{"version": 1}, {"version": 2}, {"label": "stable"}, {"images": np.zeros((28, 28))}]
)
def test_who_asks_something_else_neither_waits_nor_is_merged(other: dict[str, Any]) -> None:
    gated = _Gated()

    def behaviour(exchange: Exchange[Any]) -> Any:
        is_plain = exchange.context[2:] == (None, None, "serving_default")
        return gated(exchange) if is_plain else predicted([0])

    with InMemory(behaviour, coalesce=True) as digits, ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(digits.classify, picture(i)) for i in (1, 2)]
        assert len(digits.classify(**{"images": picture(0), **other})) == 1
        gated.open.set()
        assert [numbers(caller.result(30).probabilities) for caller in callers] == [[1], [2]]


def test_32_threads_get_their_own_answers() -> None:
    def ask(caller: int) -> None:
        for i in range(40):
            mine = [*range(caller, caller + 1 + (caller + i) % 3)]
            images = np.array([*map(picture, mine)])
            version = 1 + i % 2
            found = digits.classify(images, version=version)
            assert (numbers(found.probabilities), found.version) == (mine, version)

    with InMemory(answer, coalesce=True) as digits:
        with ThreadPoolExecutor(32) as pool:
            for done in [pool.submit(ask, caller) for caller in range(0, 960, 30)]:
                done.result(30)
        assert all(map(_is_idle, digits._here().queues.values()))


def test_threads_that_are_impatient_or_unlucky_harm_nobody() -> None:
    """Errors of every kind go to those who asked; nothing is left behind."""
    chance = random.Random(0)
    outcomes = [Unreachable, Overloaded, DeadlineExceeded, Rejected, RuntimeError, None, None, None]

    def behaviour(exchange: Exchange[Any]) -> Any:
        kind = chance.choice(outcomes)
        if kind is None:
            return answer(exchange)
        raise kind(exchange.context, "no") if issubclass(kind, CallError) else kind

    def ask(caller: int) -> None:
        for i in range(40):
            try:
                found = digits.classify(picture(caller), timeout=30 if i % 2 else 1e-6)
                assert numbers(found.probabilities) == [caller]
            except (CallError, RuntimeError):
                pass

    with InMemory(behaviour, coalesce=True, policy=Policy(attempts=1)) as digits:
        with ThreadPoolExecutor(32) as pool:
            for done in [pool.submit(ask, caller) for caller in range(32)]:
                done.result(30)
        assert all(map(_is_idle, digits._here().queues.values()))


def test_200_coroutines_get_their_own_answers_though_others_are_cancelled() -> None:
    chance = random.Random(0)

    async def behaviour(exchange: Exchange[Any]) -> Any:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return answer(exchange)

    async def ask(digits: AsyncInMemory, caller: int) -> None:
        for i in range(5):
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
            found = await digits.classify(picture(caller), version=1 + i % 2)
            assert numbers(found.probabilities) == [caller]

    async def run(digits: AsyncInMemory) -> None:
        tasks = [asyncio.create_task(ask(digits, caller)) for caller in range(200)]
        doomed = set(chance.sample(tasks, 100))
        for task in doomed:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [outcome for task, outcome in zip(tasks, outcomes, strict=True)
                if task not in doomed] == [None] * 100  # fmt: skip
        assert {type(outcome) for outcome in outcomes} == {type(None), asyncio.CancelledError}
        assert len(digits.transports[0].sent) < 900  # some were merged
        assert all(map(_is_idle, (await digits._here()).queues.values()))
        await digits.close()

    for _ in range(5):
        asyncio.run(run(AsyncInMemory(behaviour, coalesce=True)))


def test_errors_are_the_same_for_all_who_asked_together(clock: Clock) -> None:
    with Fake(clock, fails(Overloaded), policy=Policy(attempts=1), coalesce=True) as digits:
        for _ in range(5):  # a leader that failed leaves nothing behind
            with pytest.raises(Overloaded):
                digits.classify(picture(1))
        assert all(map(_is_idle, digits._here().queues.values()))
