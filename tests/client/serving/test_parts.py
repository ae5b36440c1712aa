from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.memory import AsyncInMemory, InMemory, answer, asked, numbers, picture
from tfserving_client import (
    Classification,
    DigitsError,
    InvalidInput,
    Policy,
    ServerFailed,
    Unreachable,
)
from tfserving_client.call.exchange import Exchange
from tfserving_client.digits.verbs import CLASSIFICATIONS, ready
from tfserving_client.serving.parts import Joiner, Part, Splitter
from tfserving_client.serving.rows import Rows

BAD, FLOATS = "bad", "floats"
# An item is this many integer images, as many of floats, or nothing that can be meant.
ITEMS = st.lists(
    st.integers(1, 7) | st.tuples(st.just(FLOATS), st.integers(1, 7)) | st.just(BAD), max_size=30
)
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True)


def _images(items: list[Any]) -> tuple[list[Any], list[Any]]:
    """The items as a caller gives them, and the numbers that each should get back."""
    made: list[Any] = []
    expected: list[Any] = []
    count = 0
    for item in items:
        if item == BAD:
            made.append(np.zeros((3, 3)))
            expected.append(BAD)
            continue
        size = item[1] if isinstance(item, tuple) else item
        mine = [*range(count, count + size)]
        count += size
        images = np.array([*map(picture, mine)])
        made.append(images / 255 if isinstance(item, tuple) else images)
        expected.append(mine)
    return made, expected


def _answer(part: Part) -> list[Classification | DigitsError]:
    """What a server would say to each piece."""
    found: list[Classification | DigitsError] = []
    for piece in part.pieces:
        if isinstance(piece, DigitsError):
            found.append(piece)
            continue
        values = np.asarray(piece.inputs["images"]).reshape(-1, 784)[:, :2]
        high, low = np.rint(values * (255 if values.dtype == np.float32 else 1)).astype(int).T
        bits = ((256 * high + low)[:, None] >> np.arange(10)) & 1
        found.append(Classification(low, bits.astype(np.float32), 7))
    return found


def _parts(items: list[Any], size: int) -> Iterator[Part]:
    splitter = Splitter(size, ready)
    for item in items:
        yield from splitter.add(item)
    yield from splitter.rest()


def _told(found: list[Any]) -> list[Any]:
    return [BAD if isinstance(one, InvalidInput) else numbers(one.probabilities) for one in found]


@EXAMPLES
@given(ITEMS, st.integers(1, 10))
def test_every_item_gets_its_one_answer_in_order(items: list[Any], size: int) -> None:
    made, expected = _images(items)
    seen: list[int] = []
    joiner = Joiner(CLASSIFICATIONS, seen.append, return_exceptions=True)
    found: list[Any] = []
    for part in _parts(made, size):
        found += joiner.add(part, _answer(part))
        assert seen[-1] == len(found)
    assert _told(found) == expected
    assert (seen[-1] if seen else 0) == len(made)
    refusals = [(i, one) for i, one in enumerate(found) if isinstance(one, InvalidInput)]
    assert all(str(one).startswith(f"item {i}: images have shape (3, 3)") for i, one in refusals)


@EXAMPLES
@given(ITEMS, st.integers(1, 10))
def test_a_part_is_for_one_signature_and_never_over_size(items: list[Any], size: int) -> None:
    made, _ = _images(items)
    for part in _parts(made, size):
        batches = [piece for piece in part.pieces if isinstance(piece, Rows)]
        assert part.rows == sum(map(len, batches)) <= size
        assert 1 <= len(part.pieces) <= size
        assert all(batch.kind == part.kind for batch in batches)


def test_parts_are_filled_up() -> None:
    made, _ = _images([1] * 25)
    assert [part.rows for part in _parts(made, 10)] == [10, 10, 5]
    (part,) = _parts([np.zeros((256, 28, 28), int)], 256)
    assert (part.rows, part.ends) == (256, [True])
    made, _ = _images([25])
    assert [(part.rows, part.ends) for part in _parts(made, 10)] == [
        (10, [False]), (10, [False]), (5, [True]),
    ]  # fmt: skip


def test_refused_items_do_not_pile_up() -> None:
    splitter = Splitter(4, ready)
    assert [len([*splitter.add(5)]) for _ in range(8)] == [0, 0, 0, 1] * 2
    assert [*splitter.rest()] == []


def test_an_item_in_pieces_has_its_first_error() -> None:
    (item,), _ = _images([5])
    joiner = Joiner(CLASSIFICATIONS, None, return_exceptions=True)
    errors = [InvalidInput("first"), InvalidInput("second")]
    first, second, third = _parts([item], 2)
    assert [*joiner.add(first, _answer(first))] == []
    assert [*joiner.add(second, [errors[0]])] == []
    assert [*joiner.add(third, [errors[1]])] == [errors[0]]
    made, expected = _images([2])
    (part,) = _parts(made, 2)
    assert _told([*joiner.add(part, _answer(part))]) == expected  # forgotten by the next


# --- through both clients ---


async def _answer_later(exchange: Exchange[Any]) -> Any:
    await asyncio.sleep(0)
    return answer(exchange)


async def _listed(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


@settings(EXAMPLES, max_examples=25)
@given(
    st.lists(st.integers(1, 5) | st.just(BAD), max_size=30), st.integers(1, 8), st.integers(1, 5)
)
def test_both_clients_answer_any_mix_of_items(items: list[Any], size: int, in_flight: int) -> None:
    made, expected = _images(items)
    arguments: Any = {"batch_size": size, "in_flight": in_flight, "return_exceptions": True}
    with InMemory() as digits:
        assert _told([*digits.classify_many(made, **arguments)]) == expected
        sent = digits.transports[0].sent
        assert sorted(number for exchange in sent for number in asked(exchange)) == [
            number for one in expected if one != BAD for number in one
        ]

    async def run() -> list[Any]:
        async def asynchronous() -> AsyncIterator[Any]:
            for one in made:
                yield one

        async with AsyncInMemory(_answer_later) as digits:
            found = await _listed(digits.classify_many(asynchronous(), **arguments))
            assert _told(await _listed(digits.classify_many(made, **arguments))) == _told(found)
            return found

    assert _told(asyncio.run(run())) == expected


def _pulled(count: list[int]) -> Iterator[Any]:
    for i in range(1000):
        count[0] += 1
        yield picture(i)


def _join_threads() -> None:
    """The threads end with what was under way."""
    for thread in threading.enumerate():
        if "many" in thread.name:
            thread.join(30)
            assert not thread.is_alive()


def test_who_goes_away_early_does_not_wait_for_what_is_under_way() -> None:
    gone = threading.Event()
    was_let_go: list[bool] = []

    def behaviour(exchange: Exchange[Any]) -> Any:
        if asked(exchange) != [0]:
            was_let_go.append(gone.wait(30))
        return answer(exchange)

    with InMemory(behaviour) as digits:
        found = digits.classify_many(map(picture, range(9)), batch_size=1)
        assert numbers(next(found).probabilities) == [0]
        found.close()  # type: ignore[attr-defined]
        gone.set()
    _join_threads()
    assert all(was_let_go)


def test_a_generator_may_fill_the_same_buffer_again_and_again() -> None:
    def frames() -> Iterator[Any]:
        buffer = picture(0)
        for i in range(20):
            buffer[:] = picture(i)
            yield buffer

    with InMemory() as digits:
        answers = [*digits.classify_many(frames(), batch_size=8)]
    assert [numbers(one.probabilities) for one in answers] == [[i] for i in range(20)]


@pytest.mark.parametrize(("in_flight", "size"), [(1, 1), (2, 5), (4, 10)])
def test_items_are_pulled_no_further_ahead_than_promised(in_flight: int, size: int) -> None:
    count = [0]
    with InMemory() as digits:
        found = digits.classify_many(_pulled(count), batch_size=size, in_flight=in_flight)
        assert count == [0]
        for i in range(100):
            assert numbers(next(found).probabilities) == [i]
            assert count[0] <= (i // size + in_flight + 2) * size
        found.close()  # type: ignore[attr-defined]
        assert count[0] <= (100 // size + in_flight + 2) * size
    _join_threads()


@pytest.mark.parametrize(("in_flight", "size"), [(1, 1), (2, 5), (4, 10)])
def test_coroutines_pull_no_further_ahead(in_flight: int, size: int) -> None:
    async def run() -> None:
        count = [0]
        async with AsyncInMemory(_answer_later) as digits:
            found = digits.classify_many(_pulled(count), batch_size=size, in_flight=in_flight)
            for i in range(100):
                assert numbers((await anext(found)).probabilities) == [i]
                assert count[0] <= (i // size + in_flight + 2) * size
            await found.aclose()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize("items", [7, [picture(1), BAD], [*[picture(1)] * 50, 5]])
def test_an_item_that_is_refused_ends_the_stream_and_its_threads(items: Any) -> None:
    with InMemory() as digits:
        with pytest.raises((InvalidInput, TypeError)):
            list(digits.classify_many(items, batch_size=2))
    _join_threads()


def test_an_error_is_raised_in_its_turn_after_all_answers_before_it() -> None:
    def behaviour(exchange: Exchange[Any]) -> Any:
        if 20 in asked(exchange):
            raise ServerFailed(exchange.context, "no")
        return answer(exchange)

    items = [*map(picture, range(50)), BAD]
    for bad, kind in ((20, ServerFailed), (13, InvalidInput)):
        given_items: list[Any] = [BAD if i == 13 == bad else one for i, one in enumerate(items)]
        found: list[int] = []
        with InMemory(behaviour) as digits:
            answers = digits.classify_many(given_items, batch_size=1, in_flight=8)
            with pytest.raises(kind):
                found.extend(number for one in answers for number in numbers(one.probabilities))
        assert found == [*range(bad)]
        _join_threads()


def test_what_the_items_themselves_raise_comes_through() -> None:
    def items() -> Iterator[Any]:
        yield from map(picture, range(30))
        raise KeyError("the caller's own")

    with InMemory() as digits, pytest.raises(KeyError, match="own"):
        list(digits.classify_many(items(), batch_size=3))
    _join_threads()


def test_errors_are_put_in_their_place_and_spread_no_further_than_their_request() -> None:
    def behaviour(exchange: Exchange[Any]) -> Any:
        if 5 in asked(exchange):
            raise Unreachable(exchange.context, "no")
        return answer(exchange)

    items = [*map(picture, range(8)), BAD, picture(9)]
    seen: list[int] = []
    with InMemory(behaviour, policy=Policy(attempts=1)) as digits:
        found = digits.classify_many(
            items, batch_size=2, return_exceptions=True, progress=seen.append
        )
        kinds = [type(one).__name__ for one in found]
    assert kinds == [*["Classification"] * 4, *["Unreachable"] * 2, *["Classification"] * 2,
                     "InvalidInput", "Classification"]  # fmt: skip
    assert seen == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("name", ["batch_size", "in_flight"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_sizes_that_cannot_be_meant_are_refused_at_once(name: str, value: Any) -> None:
    for digits in (InMemory(), AsyncInMemory(_answer_later)):
        with pytest.raises(InvalidInput, match=f"^{name} is"):
            digits.classify_many([], **{name: value})
