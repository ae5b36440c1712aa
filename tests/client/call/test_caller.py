from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.client.memory import (
    IMAGE,
    AsyncInMemory,
    Clock,
    Fake,
    InMemory,
    Reply,
    answer,
    answers,
    asked,
    fails,
    fails_to,
    numbers,
    picture,
    says,
)
from tfserving_client import (
    AccessDenied,
    Attempt,
    BadResponse,
    CallError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    Policy,
    Rejected,
    ServerFailed,
    State,
    Unreachable,
)
from tfserving_client.call.exchange import Exchange
from tfserving_client.call.steps import Hedge
from tfserving_client.errors import CallContext
from tfserving_client.serving import client as serving_client

STEADY = Policy(attempts=10, first_wait=1, longest_wait=8, timeout=1000)


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [(Unreachable, 4), (Overloaded, 4), (DeadlineExceeded, 4), (NotFound, 1), (Rejected, 1),
     (AccessDenied, 1), (ServerFailed, 1), (BadResponse, 1)],
)  # fmt: skip
def test_only_what_may_pass_is_tried_again(
    clock: Clock, kind: type[CallError], attempts: int
) -> None:
    digits = Fake(clock, fails(kind), policy=Policy())
    error = fails_to(digits, kind)
    predictions = [send for send in digits.sent if "Predict" in send.exchange.method]
    assert len(predictions) == error.attempts == attempts
    assert len(digits.waits) == attempts - 1
    assert (f"after {attempts} attempts" in str(error)) is (attempts > 1)


@pytest.mark.parametrize("kind", [Unreachable, Overloaded, DeadlineExceeded])
def test_an_attempt_that_works_is_the_answer(clock: Clock, kind: type[CallError]) -> None:
    digits = Fake(clock, fails(kind), fails(kind), answers, policy=Policy())
    assert numbers(digits.classify(IMAGE).probabilities) == [5]
    assert len(digits.sent) == 3


@pytest.mark.parametrize("kind", [Unreachable, Overloaded, DeadlineExceeded])
def test_one_attempt_is_one_attempt(clock: Clock, kind: type[CallError]) -> None:
    digits = Fake(clock, fails(kind), answers, url="grpc://a,b", policy=Policy(attempts=1))
    assert fails_to(digits, kind).attempts == 1
    assert len(digits.sent) == 1
    assert digits.waits == []


@pytest.mark.parametrize(
    ("statuses", "attempts"),
    [
        (says(State.START), 3),
        (says(State.END, State.LOADING), 3),
        (says(State.AVAILABLE), 1),
        (says(State.UNLOADING, State.END, State.UNKNOWN), 1),
        (says(), 1),
        (fails(NotFound), 1),
        (fails(Unreachable), 1),
        (fails(AccessDenied), 1),
    ],
)
def test_what_is_not_found_is_asked_again_only_while_it_loads(
    clock: Clock, statuses: Reply, attempts: int
) -> None:
    missing = fails(NotFound)
    digits = Fake(clock, missing, statuses, missing, statuses, answers, policy=Policy())
    if attempts > 1:
        assert digits.classify(IMAGE, label="new").version == 7
    else:
        assert fails_to(digits, NotFound, label="new").attempts == 1
    methods = [send.exchange.method.rpartition("/")[2] for send in digits.sent]
    assert methods == (["Predict", "GetModelStatus"] * 3)[: 2 * attempts - (attempts > 1)]
    assert digits.sent[1].exchange.context.label is None
    assert len(digits.waits) == attempts - 1


def test_a_status_that_is_not_found_is_not_asked_for_its_status(clock: Clock) -> None:
    digits = Fake(clock, fails(NotFound))
    for verb in (digits.status, digits.metadata):
        digits.steps.clear()
        with pytest.raises(NotFound):
            verb()
        assert len(digits.sent) == 1


@pytest.mark.parametrize("kind", [Unreachable, Overloaded, DeadlineExceeded])
@pytest.mark.parametrize(("timeout", "takes"), [(10, 0), (10, 1.7), (3, 2.9), (1, 5), (0.001, 0)])
def test_the_deadline_is_that_of_all_attempts_and_waits(
    clock: Clock, kind: type[CallError], timeout: float, takes: float
) -> None:
    policy = Policy(attempts=1000, first_wait=0.3, longest_wait=2, timeout=99)
    for chosen in (timeout, None):  # the call's, the client's
        digits = Fake(clock, fails(kind), policy=policy, takes=takes, timeout=timeout)
        start = clock.now
        fails_to(digits, kind, timeout=chosen)
        least = 0.001  # seconds, of an attempt
        assert clock.now - start <= timeout + least
        left = timeout
        for send, wait in zip(digits.sent, [*digits.waits, 0], strict=True):
            assert send.timeout == pytest.approx(max(left, least))
            left -= min(takes, send.timeout) + wait


def test_a_wait_never_outlasts_the_deadline_even_after_a_question_for_the_status(
    clock: Clock,
) -> None:
    def slow(step: Any) -> Any:
        clock.now += 0.9
        return says(State.LOADING)(step)

    policy = Policy(first_wait=0.8, timeout=1)
    digits = Fake(clock, fails(NotFound), slow, answers, policy=policy)
    start = clock.now
    fails_to(digits, NotFound)
    assert clock.now - start <= 1
    assert digits.waits == []


def test_an_attempt_has_its_own_deadline_within_the_calls(clock: Clock) -> None:
    policy = Policy(timeout=5, attempt_timeout=2, first_wait=0, attempts=9)
    digits = Fake(clock, fails(DeadlineExceeded), policy=policy, takes=9)
    fails_to(digits, DeadlineExceeded)
    assert [send.timeout for send in digits.sent] == [2, 2, 1]
    assert clock.now == 1005


def test_when_time_runs_out_the_error_says_what_went_wrong_before(clock: Clock) -> None:
    down, late = fails(Overloaded, "no server answers"), fails(DeadlineExceeded, "too late")
    digits = Fake(clock, down, late, late, policy=Policy(attempts=3, first_wait=0, timeout=9))
    error = fails_to(digits, DeadlineExceeded)
    assert error.server_text == "too late; before that: no server answers"
    assert error.attempts == 3


def test_waits_double_with_jitter(clock: Clock) -> None:
    digits = Fake(clock, fails(Unreachable), policy=STEADY)
    fails_to(digits, Unreachable)
    full = [1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert all(f / 2 <= wait <= f for wait, f in zip(digits.waits, full, strict=True))
    assert len(set(digits.waits)) == 9


def test_the_servers_advice_goes_first(clock: Clock) -> None:
    script = [fails(Overloaded, retry_after=seconds) for seconds in (7, 0, 0.25)]
    digits = Fake(clock, *script, answers, policy=STEADY)
    digits.classify(IMAGE)
    assert digits.waits == [7, 0.25]  # 0: at once


@pytest.mark.parametrize("advice", [10, 1e9, math.inf, math.nan])
def test_advice_beyond_the_deadline_ends_the_call_at_once(clock: Clock, advice: float) -> None:
    digits = Fake(clock, fails(Overloaded, retry_after=advice), answers, policy=Policy(timeout=10))
    assert fails_to(digits, Overloaded).retry_after is advice
    assert (digits.waits, clock.now) == ([], 1000)


def test_without_a_budget_nothing_is_tried_again(clock: Clock) -> None:
    digits = Fake(clock, fails(Unreachable), policy=Policy(retry_share=0))
    assert fails_to(digits, Unreachable).attempts == 1


def test_in_an_outage_retries_are_soon_a_share_of_calls(clock: Clock) -> None:
    digits = Fake(clock, fails(Overloaded), policy=Policy(retry_share=0.25))
    for _ in range(1000):
        fails_to(digits, Overloaded)
    assert 1000 + 250 + 90 < len(digits.sent) <= 1000 + 250 + 100


def test_a_call_to_another_healthy_server_costs_no_budget_and_no_wait(clock: Clock) -> None:
    policy = Policy(retry_share=0)
    digits = Fake(clock, fails(Unreachable), answers, url="grpc://a,b", policy=policy)
    assert numbers(digits.classify(IMAGE).probabilities) == [5]
    assert [send.endpoint for send in digits.sent] == [0, 1]
    assert digits.waits == []


def test_another_server_costs_budget_where_the_first_one_answered(clock: Clock) -> None:
    for share, attempts in ((0.0, 1), (0.1, 3)):
        policy = Policy(attempts=3, retry_share=share)
        digits = Fake(clock, fails(Overloaded), url="grpc://a,b,c", policy=policy)
        assert fails_to(digits, Overloaded).attempts == attempts
        assert len({send.endpoint for send in digits.sent}) == attempts
        assert digits.waits == []  # another one may have room at once


def test_calls_take_turns(clock: Clock) -> None:
    digits = Fake(clock, answers, url="grpc://a,b,c")
    for _ in range(6):
        digits.classify(IMAGE)
    assert [send.endpoint for send in digits.sent] == [0, 1, 2] * 2


@pytest.mark.parametrize("kind", [Unreachable, BadResponse])
def test_a_server_that_fails_is_left_alone_probed_and_taken_back(
    clock: Clock, kind: type[CallError]
) -> None:
    is_down = True

    def reply(step: Any) -> Any:
        return fails(kind)(step) if is_down and step.endpoint == 0 else answers(step)

    digits = Fake(clock, reply, url="grpc://a,b")

    def asked(calls: int) -> int:
        digits.steps.clear()
        for _ in range(calls):
            digits.classify(IMAGE)
        return sum(send.endpoint == 0 for send in digits.sent)

    assert asked(20) == 1
    for rest in (0.5, 1, 2, 4, 8, 10, 10):
        clock.now += rest - 0.01
        assert asked(4) == 0
        clock.now += 0.02
        assert asked(20) == 1
    clock.now += 10.01
    is_down = False
    assert asked(20) >= 9


def test_where_all_fail_all_are_tried_and_the_error_names_the_last(clock: Clock) -> None:
    digits = Fake(clock, fails(Unreachable), url="grpc://a:1,b:2", policy=Policy(attempts=3))
    error = fails_to(digits, Unreachable)
    assert [send.endpoint for send in digits.sent] == [0, 1, 0]
    assert (error.attempts, error.context.endpoint) == (3, "grpc://a:1")
    assert "at grpc://a:1 after 3 attempts" in str(error)
    for _ in range(20):  # nothing is given up for good
        fails_to(digits, Unreachable)
    digits.script = [answers]
    assert digits.classify(IMAGE).version == 7


@pytest.mark.parametrize("kind", [Rejected, NotFound, ServerFailed, AccessDenied, Overloaded])
def test_a_server_that_answers_is_not_left_alone(clock: Clock, kind: type[CallError]) -> None:
    digits = Fake(clock, fails(kind), url="grpc://a,b", policy=Policy(attempts=1))
    for _ in range(6):
        error = fails_to(digits, kind)
        assert error.context.endpoint == f"grpc://{'ab'[digits.sent[-1].endpoint]}"
    predictions = [send.endpoint for send in digits.sent if "Predict" in send.exchange.method]
    assert sorted(predictions) == [0, 0, 0, 1, 1, 1]


def test_a_bad_response_is_tried_elsewhere_and_only_elsewhere(clock: Clock) -> None:
    digits = Fake(clock, fails(BadResponse), url="grpc://a,b", policy=STEADY)
    assert fails_to(digits, BadResponse).attempts == 2
    assert {send.endpoint for send in digits.sent} == {0, 1}


def test_one_server_is_named_as_the_caller_wrote_it(clock: Clock) -> None:
    digits = Fake(clock, fails(Rejected), url="grpc://a")
    assert fails_to(digits, Rejected).context == CallContext(
        "grpc://a", "mnist", signature="serving_default"
    )


def test_the_hook_is_entered_around_every_attempt_and_may_add_headers(clock: Clock) -> None:
    seen: list[Any] = []

    @contextmanager
    def observe(attempt: Attempt) -> Iterator[None]:
        attempt.headers["traceparent"] = f"00-{attempt.number}"
        seen.append((attempt.number, attempt.method, attempt.context.version))
        try:
            yield
        except CallError as error:
            seen.append(type(error))
            raise
        seen.append("answer")

    digits = Fake(
        clock, fails(Unreachable), fails(Overloaded), answers,
        observe=observe, api_key="key", headers={"x-a": "b"},
    )  # fmt: skip
    digits.classify(IMAGE, version=3)
    method = "/tensorflow.serving.PredictionService/Predict"
    assert seen == [
        (1, method, 3), Unreachable, (2, method, 3), Overloaded, (3, method, 3), "answer",
    ]  # fmt: skip
    assert [dict(send.headers) for send in digits.sent] == [
        {"x-a": "b", "x-api-key": "key", "traceparent": f"00-{i}"} for i in (1, 2, 3)
    ]
    assert digits._caller._headers == {"x-a": "b", "x-api-key": "key"}


def test_a_client_closed_meanwhile_does_not_wait_to_try_again() -> None:
    def hang_up(exchange: Exchange[Any]) -> Any:
        digits.close()
        raise Unreachable(exchange.context, "it went away")

    digits = InMemory(hang_up, policy=Policy(first_wait=1e5, longest_wait=1e5, timeout=1e6))
    for words in ("closed", "closed"):
        with pytest.raises(Unreachable, match=words):
            digits.classify(IMAGE)
    assert len(digits.transports[0].sent) == 1
    assert digits.transports[0].is_closed


def _hedging(**policy: Any) -> Policy:
    return Policy(**{"hedge_after": 0.001, "attempts": 1, "timeout": 30, **policy})


def test_a_hedge_goes_to_the_next_server_with_what_is_left_of_the_time(clock: Clock) -> None:
    policy = Policy(hedge_after=2, timeout=10)
    digits = Fake(clock, answers, url="grpc://a,b", policy=policy)
    for _ in range(4):
        digits.classify(IMAGE)
    hedges = [step for step in digits.steps if isinstance(step, Hedge)]
    assert [hedge.first.endpoint for hedge in hedges] == [0, 1, 0, 1]  # turns stay even
    for hedge in hedges:
        assert hedge.second.endpoint == 1 - hedge.first.endpoint
        assert (hedge.delay, hedge.first.timeout, hedge.second.timeout) == (2, 10, 8)
        assert hedge.second.exchange is hedge.first.exchange


def test_no_hedge_where_it_would_come_after_the_deadline(clock: Clock) -> None:
    digits = Fake(clock, answers, policy=Policy(hedge_after=2))
    digits.classify(IMAGE, timeout=2)
    assert not any(isinstance(step, Hedge) for step in digits.steps)


class _Slow:
    """Two servers, of which the first answers only when the second was asked, if ever."""

    def __init__(self, first: type[Exception] | None, second: type[Exception] | None) -> None:
        self.outcomes = (first, second)
        self.begun, self.asked = threading.Event(), threading.Event()

    def first(self, exchange: Exchange[Any]) -> Any:
        self.begun.set()
        assert self.asked.wait(30)
        return self._outcome(0, exchange)

    def second(self, exchange: Exchange[Any]) -> Any:
        assert self.begun.wait(30)
        self.asked.set()
        return self._outcome(1, exchange)

    def _outcome(self, number: int, exchange: Exchange[Any]) -> Any:
        kind = self.outcomes[number]
        if kind is None:
            return answer(exchange)
        if issubclass(kind, CallError):
            raise kind(exchange.context, "no")
        raise kind


OUTCOMES: list[tuple[type[Exception] | None, type[Exception] | None, type[Exception] | None]] = [
    (None, None, None),
    (Unreachable, None, None),
    (None, Rejected, None),
    (Overloaded, Overloaded, Overloaded),
]


@pytest.mark.parametrize(("first", "second", "both"), OUTCOMES)
def test_the_first_success_of_two_copies_is_the_answer(first: Any, second: Any, both: Any) -> None:
    slow = _Slow(first, second)
    with InMemory(slow.first, slow.second, url="grpc://a,b", policy=_hedging()) as digits:
        if both is None:
            assert numbers(digits.classify(IMAGE).probabilities) == [5]
        else:
            with pytest.raises(both):
                digits.classify(IMAGE)
        assert [len(transport.sent) for transport in digits.transports] == [1, 1]


@pytest.mark.parametrize(("first", "second", "both"), OUTCOMES)
def test_the_same_with_coroutines(first: Any, second: Any, both: Any) -> None:
    async def run() -> None:
        asked = asyncio.Event()
        slow = _Slow(first, second)

        async def answer_first(exchange: Exchange[Any]) -> Any:
            async with asyncio.timeout(30):
                await asked.wait()
            return slow._outcome(0, exchange)

        async def answer_second(exchange: Exchange[Any]) -> Any:
            asked.set()
            return slow._outcome(1, exchange)

        behaviours = (answer_first, answer_second)
        async with AsyncInMemory(*behaviours, url="grpc://a,b", policy=_hedging()) as digits:
            if both is None:
                assert numbers((await digits.classify(IMAGE)).probabilities) == [5]
            else:
                with pytest.raises(both):
                    await digits.classify(IMAGE)
            assert [len(transport.sent) for transport in digits.transports] == [1, 1]
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize(("share", "copies"), [(0.0, 1), (0.5, 2)])
def test_hedges_spend_budget(monkeypatch: pytest.MonkeyPatch, share: float, copies: int) -> None:
    was_asked_for, begun = threading.Event(), threading.Semaphore(0)

    def lag(exchange: Exchange[Any]) -> Any:
        begun.release()
        assert was_asked_for.wait(30)
        return answer(exchange)

    with InMemory(lag, policy=_hedging(retry_share=share)) as digits:
        budget = digits._caller._budget
        left, spend = budget._left, budget.spend

        def spend_and_tell() -> bool:
            was_asked_for.set()
            return spend()

        monkeypatch.setattr(budget, "spend", spend_and_tell)
        digits.classify(IMAGE)
        for _ in range(copies):
            assert begun.acquire(timeout=30)
        assert len(digits.transports[0].sent) == copies
        assert budget._left == max(left - 1, 0)


def test_with_too_many_copies_under_way_a_call_is_sent_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_client, "_COPIES", 2)
    is_over = threading.Event()

    def behaviour(exchange: Exchange[Any]) -> Any:
        if asked(exchange) == [5]:
            assert is_over.wait(30)
        return answer(exchange)

    with InMemory(behaviour, policy=_hedging()) as digits, ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(digits.classify, IMAGE)
        (transport,) = digits.transports
        while len(transport.sent) < 2:
            pass
        assert numbers(digits.classify(picture(6)).probabilities) == [6]
        assert not hanging.done()
        is_over.set()
        assert numbers(hanging.result(30).probabilities) == [5]
        assert len(transport.sent) == 3


@pytest.mark.parametrize("kind", [Rejected, Unreachable])
def test_a_failure_before_the_delay_is_no_reason_for_a_second_copy(kind: type[CallError]) -> None:
    def fail(exchange: Exchange[Any]) -> Any:
        raise kind(exchange.context, "no")

    with InMemory(fail, policy=_hedging(hedge_after=20)) as digits:
        with pytest.raises(kind):
            digits.classify(IMAGE)
        assert len(digits.transports[0].sent) == 1


def test_a_caller_in_a_hurry_says_nothing_about_the_server(clock: Clock) -> None:
    digits = Fake(clock, fails(DeadlineExceeded), url="grpc://a,b", policy=Policy(attempts=1))
    for _ in range(4):
        fails_to(digits, DeadlineExceeded, timeout=0.2)
    assert [send.endpoint for send in digits.sent] == [0, 1, 0, 1]
    fails_to(digits, DeadlineExceeded, timeout=5)
    fails_to(digits, DeadlineExceeded, timeout=5)
    assert [send.endpoint for send in digits.sent[4:]] == [0, 1]


@pytest.mark.parametrize("timeout", [0.2, 1, 10])
def test_a_server_that_hangs_is_left_alone_whatever_the_clients_timeout_is(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    def tick() -> float:  # time passes between any two looks at the clock
        clock.now += 1e-5
        return clock.now

    monkeypatch.setattr(clock, "monotonic", tick)
    policy = Policy(timeout=timeout, attempts=1)
    digits = Fake(clock, fails(DeadlineExceeded), answers, url="grpc://a,b", policy=policy)
    fails_to(digits, DeadlineExceeded)
    digits.classify(IMAGE)
    digits.classify(IMAGE)
    assert [send.endpoint for send in digits.sent] == [0, 1, 1]


def test_an_answering_server_is_asked_again_at_once(clock: Clock) -> None:
    answering = Fake(clock, fails(DeadlineExceeded), answers, url="grpc://a,b", timeout=5)
    answering.classify(IMAGE)
    answering.classify(IMAGE)
    assert [send.endpoint for send in answering.sent] == [0, 1, 1]


def test_a_hook_that_swallows_the_error_is_told_so(clock: Clock) -> None:
    digits = Fake(clock, fails(Unreachable), observe=lambda _: suppress(CallError))
    with pytest.raises(RuntimeError, match="swallowed"):
        digits.classify(IMAGE)


def test_headers_that_a_hook_adds_are_checked(clock: Clock) -> None:
    @contextmanager
    def observe(attempt: Attempt) -> Iterator[None]:
        attempt.headers["Upper"] = "x"
        yield

    digits = Fake(clock, answers, observe=observe)
    with pytest.raises(InvalidInput, match="'Upper'"):
        digits.classify(IMAGE)
    assert digits.sent == []


def test_closing_ends_a_hedged_call_as_unreachable() -> None:
    closed = threading.Event()

    def close(exchange: Exchange[Any]) -> Any:
        digits.close()
        closed.set()
        raise Unreachable(exchange.context, "closed")

    digits = InMemory(close, policy=_hedging())
    with pytest.raises(Unreachable, match="closed"):
        digits.classify(IMAGE)
    with pytest.raises(Unreachable, match="closed"):
        digits.classify(IMAGE)
