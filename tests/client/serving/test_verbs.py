from __future__ import annotations

import pytest

from tests.client.memory import (
    Clock,
    Fake,
    Reply,
    fails,
    says,
)
from tfserving_client import (
    AccessDenied,
    BadResponse,
    CallError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Policy,
    Rejected,
    ServerFailed,
    State,
    Unreachable,
)


@pytest.mark.parametrize(
    ("reply", "ready"),
    [(says(State.AVAILABLE), True), (says(State.END, State.AVAILABLE), True),
     (says(State.LOADING), False), (says(), False), (fails(Unreachable), False),
     (fails(DeadlineExceeded), False), (fails(NotFound), False)],
)  # fmt: skip
def test_ready_asks_once(clock: Clock, reply: Reply, ready: bool) -> None:
    digits = Fake(clock, reply)
    assert digits.ready() is ready
    assert (len(digits.sent), digits.waits) == (1, [])


def test_ready_asks_each_server_until_one_answers(clock: Clock) -> None:
    digits = Fake(clock, fails(Unreachable), says(State.AVAILABLE), url="grpc://a,b")
    assert digits.ready()
    digits = Fake(clock, fails(Unreachable), url="grpc://a,b,c", policy=Policy(retry_share=0))
    assert not digits.ready()
    assert sorted(send.endpoint for send in digits.sent) == [0, 1, 2]
    assert digits.waits == []


@pytest.mark.parametrize("kind", [AccessDenied, BadResponse, ServerFailed, Rejected])
def test_what_waiting_does_not_change_is_raised(clock: Clock, kind: type[CallError]) -> None:
    for verb in (Fake.ready, Fake.wait_until_ready):
        with pytest.raises(kind):
            verb(Fake(clock, fails(kind)))


def test_waiting_until_ready_asks_until_it_is(clock: Clock) -> None:
    script = [fails(Unreachable), fails(DeadlineExceeded), fails(NotFound), says(State.LOADING)]
    digits = Fake(clock, *script, says(State.AVAILABLE), policy=Policy(retry_share=0))
    digits.wait_until_ready()
    assert digits.waits == [0.2] * 4


def test_waiting_until_ready_ends_at_its_deadline_and_says_what_was_last_seen(
    clock: Clock,
) -> None:
    for reply, words in ((fails(Unreachable, "refused"), "the connection was refused"),
                         (says(State.END, State.START), "version 1 END, version 2 START"),
                         ):  # fmt: skip
        start = clock.now
        digits = Fake(clock, reply, takes=0.7)
        with pytest.raises(DeadlineExceeded, match=f"not AVAILABLE within 5 s; last seen: {words}"):
            digits.wait_until_ready(timeout=5)
        assert clock.now - start == pytest.approx(5)
        assert all(send.timeout <= 5 for send in digits.sent)


@pytest.mark.parametrize(("patience", "words"), [(10, "version 1 LOADING"), (1, "too late")])
def test_what_the_end_of_the_wait_cuts_short_is_not_what_was_last_seen(
    clock: Clock, patience: float, words: str
) -> None:
    late = fails(DeadlineExceeded, "too late")
    digits = Fake(clock, says(State.LOADING), late, timeout=patience, takes=0.7)
    with pytest.raises(DeadlineExceeded, match=f"last seen: {words} "):
        digits.wait_until_ready(timeout=2.5)


def test_a_version_that_failed_to_load_is_not_waited_for(clock: Clock) -> None:
    broken = says(State.END, error="no file")
    with pytest.raises(ServerFailed, match="version 3 failed to load: no file"):
        Fake(clock, broken).wait_until_ready(version=3)
    with pytest.raises(DeadlineExceeded):  # another version may come
        Fake(clock, broken).wait_until_ready()


def test_a_server_that_is_full_is_not_ready_and_may_become_so(clock: Clock) -> None:
    assert not Fake(clock, fails(Overloaded)).ready()
    Fake(clock, fails(Overloaded), says(State.AVAILABLE)).wait_until_ready(timeout=5)
