from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.client.memory import (
    IMAGE,
    Clock,
    Fake,
    InMemory,
    Reply,
    answers,
    fails,
    fails_to,
    predicted,
)
from tfserving_client import (
    InvalidInput,
    Policy,
    Rejected,
    Tls,
    Unreachable,
)
from tfserving_client.digits.verbs import DigitVerbs

PACKED_MISSING = 'Serving signature key "packed" not found.'


def _over_rest(*packed: str) -> tuple[Reply, list[str]]:
    """A server of REST that lacks `packed` for the paths given; the signatures asked."""
    asked: list[str] = []

    def reply(step: Any) -> Any:
        signature = json.loads(step.exchange.body)["signature_name"]
        path = step.exchange.method.removeprefix("POST /v1/models/mnist").removesuffix(":predict")
        asked.append(f"{path} {signature}")
        if signature == "packed" and path in packed:
            raise Rejected(step.exchange.context, PACKED_MISSING)
        return predicted([5])

    return reply, asked


def test_a_missing_signature_is_remembered_for_each_version_and_label(clock: Clock) -> None:
    reply, asked = _over_rest("", "/versions/1", "/labels/old")
    digits = Fake(clock, reply, url="http://a")
    for which in ({}, {"version": 1}, {"label": "old"}, {"version": 2}) * 2:
        assert digits.classify(IMAGE, **which).digits.tolist() == [5]
    places = ("", "/versions/1", "/labels/old")
    first = [f"{place} {name}" for place in places for name in ("packed", "serving_default")]
    again = [f"{place} serving_default" for place in places]
    assert asked == [*first, "/versions/2 packed", *again, "/versions/2 packed"]


def test_a_missing_signature_does_not_double_the_deadline(clock: Clock) -> None:
    reply, _ = _over_rest("")
    digits = Fake(clock, reply, fails(Unreachable), url="http://a", timeout=10, takes=6)
    start = clock.now
    fails_to(digits, Unreachable)
    assert [send.timeout for send in digits.sent] == [10, 4]
    assert clock.now - start <= 10


def test_other_refusals_of_the_faster_signature_are_the_answer(clock: Clock) -> None:
    digits = Fake(clock, fails(Rejected, "too large"), url="http://a")
    assert fails_to(digits, Rejected).context.signature == "packed"
    assert len(digits.sent) == 1


def test_only_integers_have_a_faster_signature(clock: Clock) -> None:
    reply, asked = _over_rest()
    digits = Fake(clock, reply, url="http://a")
    for images in (IMAGE, IMAGE / 255, b"\xff\xd8\xff"):
        digits.classify(images)
    assert asked == [" packed", " predict_images", " encoded"]


@pytest.mark.parametrize(
    "arguments",
    [{"policy": 5}, {"policy": {}}, {"observe": 5}, {"tls": True}, {"tls": Tls()}, {"headers": 5},
     {"headers": [("a", "b")]}, {"headers": {"A": "b"}}, {"api_key": 5}, {"api_key": "a\n"},
     {"coalesce": -1}, {"coalesce": "yes"}, {"coalesce": None}, {"timeout": 0}, {"model": ""}],
)  # fmt: skip
def test_arguments_that_cannot_be_meant_are_refused(arguments: Any) -> None:
    with pytest.raises(InvalidInput):
        DigitVerbs("grpc://a", **arguments)


def test_a_clients_timeout_goes_before_its_policys() -> None:
    assert DigitVerbs("grpc://a").timeout == 10
    assert DigitVerbs("grpc://a", policy=Policy(timeout=3)).timeout == 3
    assert DigitVerbs("grpc://a", policy=Policy(timeout=3, attempts=7), timeout=4).policy == Policy(
        timeout=4, attempts=7
    )


def test_the_arguments_of_a_call_are_checked_before_anything_is_sent() -> None:
    with InMemory() as digits:
        both = {"version": 1, "label": "a"}
        refused: list[Any] = [{"version": 0}, {"label": ""}, {"timeout": 0}, both]
        for arguments in refused:
            with pytest.raises(InvalidInput):
                digits.classify(np.zeros((28, 28), int), **arguments)
            with pytest.raises(InvalidInput):
                list(digits.classify_many([IMAGE], **arguments))
        for verb in (digits.status, digits.ready, digits.wait_until_ready):
            for arguments in ({"version": 0}, {"timeout": -1}):
                with pytest.raises(InvalidInput):
                    verb(**arguments)
        assert digits.transports[0].sent == []


def test_what_cannot_be_iterated_is_refused_at_once(clock: Clock) -> None:
    digits = Fake(clock, answers)
    not_items: Any = 5
    with pytest.raises(InvalidInput, match="items are an int"):
        digits.classify_many(not_items)
    with pytest.raises(InvalidInput, match="timeout"):
        digits.classify_many([IMAGE], timeout=-1)


def test_a_model_that_lacked_the_faster_signature_is_asked_again_after_a_minute(
    clock: Clock,
) -> None:
    digits = Fake(clock, fails(Rejected, PACKED_MISSING), lambda _: predicted([5]), url="http://a")
    digits.classify(IMAGE)
    digits.classify(IMAGE)
    clock.now += 61
    digits.classify(IMAGE)
    signatures = [send.exchange.context.signature for send in digits.sent]
    assert signatures == ["packed", "serving_default", "serving_default", "packed"]
