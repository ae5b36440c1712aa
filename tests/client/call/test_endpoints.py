from __future__ import annotations

import pytest

from tests.client.memory import Clock
from tfserving_client.call.endpoints import Endpoints


def _chosen(endpoints: Endpoints, times: int) -> list[int]:
    return [endpoints.choose() for _ in range(times)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_turns_are_even(count: int) -> None:
    assert _chosen(Endpoints(count), 3 * count) == [*range(count)] * 3


def test_a_lone_server_is_chosen_whatever_happened(clock: Clock) -> None:
    lone = Endpoints(1)
    lone.failed(0)
    assert lone.choose([0]) == lone.choose() == 0
    assert not lone.has_fresh([0])
    clock.now += 0.1
    assert not lone.has_fresh([])


def test_what_was_tried_comes_last() -> None:
    endpoints = Endpoints(3)
    for _ in range(5):
        assert endpoints.choose([0, 2]) == 1
        assert endpoints.choose([0]) in {1, 2}
    assert endpoints.choose([0, 1, 2]) in {0, 1, 2}


def test_who_fails_is_left_alone_each_time_for_longer_and_then_probed_once(clock: Clock) -> None:
    endpoints = Endpoints(2)
    for rest in (0.5, 1, 2, 4, 8, 10, 10, *[10] * 20):
        endpoints.failed(1)
        clock.now += rest - 0.01
        assert _chosen(endpoints, 4) == [0] * 4
        assert not endpoints.has_fresh([0])
        clock.now += 0.02
        assert endpoints.has_fresh([0])
        assert sorted(_chosen(endpoints, 8)) == [0] * 7 + [1]  # one probe, though nothing came yet


def test_an_answer_ends_the_rest(clock: Clock) -> None:
    endpoints = Endpoints(2)
    for _ in range(5):
        endpoints.failed(0)
    endpoints.worked(0)
    assert sorted(_chosen(endpoints, 4)) == [0, 0, 1, 1]
    endpoints.failed(0)
    clock.now += 0.51
    assert 0 in _chosen(endpoints, 2)


def test_when_all_rest_the_one_that_rested_most_is_tried(clock: Clock) -> None:
    endpoints = Endpoints(3)
    for number in (2, 0, 1):
        endpoints.failed(number)
        clock.now += 0.1
    assert _chosen(endpoints, 3) == [2, 0, 1]
    assert not endpoints.has_fresh([])


@pytest.mark.parametrize(
    ("tried", "failed", "fresh"),
    [([], [], True), ([0], [], True), ([0, 1], [], False), ([0], [1], False), ([], [0], True)],
)
@pytest.mark.usefixtures("clock")
def test_fresh_is_who_was_neither_tried_nor_failed(
    tried: list[int], failed: list[int], fresh: bool
) -> None:
    endpoints = Endpoints(2)
    for number in failed:
        endpoints.failed(number)
    assert endpoints.has_fresh(tried) is fresh


def test_a_spare_for_a_second_copy_takes_no_turn_and_is_no_probe(clock: Clock) -> None:
    endpoints = Endpoints(2)
    chosen = [endpoints.choose() for _ in range(4) if endpoints.spare([0]) == 1]
    assert chosen == [0, 1, 0, 1]
    endpoints.failed(1)
    clock.now += 0.51
    assert endpoints.spare([0]) == 1
    assert 1 in _chosen(endpoints, 2)  # the probe is still due
    assert Endpoints(1).spare([0]) == 0


@pytest.mark.usefixtures("clock")
def test_the_turns_of_one_that_rests_are_shared_by_the_others() -> None:
    endpoints = Endpoints(3)
    endpoints.failed(1)
    assert _chosen(endpoints, 6) == [0, 2] * 3


def test_calls_that_fail_together_are_one_failure(clock: Clock) -> None:
    endpoints = Endpoints(2)
    for _ in range(8):
        endpoints.failed(0)
    clock.now += 0.51
    assert endpoints.has_fresh([1])
