from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tfserving_client import BadResponse, CallContext, Classification, Digit
from tfserving_client.digits.classification import classification, join, split
from tfserving_client.results import Prediction

CONTEXT = CallContext("grpc://a", "mnist")
ROWS = np.eye(3, 10)


def _read(n: int = 3, version: int | None = 5, **outputs: Any) -> Any:
    return classification(CONTEXT, Prediction(outputs, version), n)


@pytest.mark.parametrize(
    "outputs",
    [
        {"probabilities": ROWS, "digits": np.array([0, 1, 2])},
        {"probabilities": ROWS.astype(int), "digits": np.array([0, 1, 2], np.uint8)},
        {"probabilities": ROWS.astype(np.float32)},
        {"scores": ROWS.astype(np.float16)},
        {"scores": ROWS, "something": np.array(["else"])},
        {"probabilities": ROWS, "scores": np.zeros(1)},
        {"probabilities": ROWS * (1 + 9e-4)},
    ],
)
def test_outputs_of_every_fitting_dtype_become_the_same_answer(outputs: Any) -> None:
    answer = _read(**outputs)
    assert (answer.digits.tolist(), answer.version, len(answer)) == ([0, 1, 2], 5, 3)
    assert (answer.digits.dtype, answer.probabilities.dtype) == (np.int64, np.float32)
    assert np.allclose(answer.probabilities, ROWS, atol=1e-3)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "expected probabilities of shape (3, 10)"),
        ({"probabilities": ROWS[:2]}, "(2, 10)"),
        ({"probabilities": ROWS.T}, "(10, 3)"),
        ({"probabilities": np.zeros(())}, "()"),
        ({"probabilities": ROWS * 1.01}, "0..1"),
        ({"probabilities": ROWS - 0.01}, "0..1"),
        ({"probabilities": np.where(ROWS, np.nan, ROWS)}, "0..1"),
        ({"probabilities": np.where(ROWS, np.inf, ROWS)}, "0..1"),
        *(({"probabilities": ROWS.astype(dtype)}, "0..1") for dtype in (bool, object, str, "c8")),
        ({"probabilities": ROWS, "digits": np.array([0, 1])}, "3 integers"),
        ({"probabilities": ROWS, "digits": np.zeros((3, 1), int)}, "3 integers"),
        ({"probabilities": ROWS, "digits": np.array([0, 1, 10])}, "3 integers"),
        ({"probabilities": ROWS, "digits": np.array([0, 1, -1])}, "3 integers"),
        ({"probabilities": ROWS, "digits": np.array([0, 1, 2.0])}, "3 integers"),
        ({"probabilities": ROWS, "digits": np.array([0, 1, 2], object)}, "3 integers"),
    ],
)
def test_other_outputs_are_bad_responses(outputs: Any, words: str) -> None:
    with pytest.raises(BadResponse) as failure:
        _read(**outputs)
    assert words in str(failure.value)


def test_digits_are_taken_from_the_server_not_guessed_anew() -> None:
    assert _read(probabilities=ROWS, digits=np.array([7, 8, 9])).digits.tolist() == [7, 8, 9]


@pytest.mark.parametrize("sizes", [[3], [1, 2], [1, 1, 1]])
def test_an_answer_is_split_by_sizes_and_joined_again(sizes: list[int]) -> None:
    whole = _read(probabilities=ROWS)
    parts = split(whole, sizes)
    assert [len(part) for part in parts] == sizes
    again = join(parts)
    assert np.array_equal(again.digits, whole.digits)
    assert np.array_equal(again.probabilities, whole.probabilities)
    assert {part.version for part in [again, *parts]} == {5}


def test_ten_equal_probabilities_are_a_blank_image() -> None:
    unsure = np.where(np.arange(10) == 3, 0.46, 0.06)
    answer = _read(probabilities=np.stack([ROWS[0], np.full(10, 0.1), unsure]).astype(np.float32))
    assert answer.blank.dtype == bool
    assert answer.blank.tolist() == [False, True, False]
    assert [one.blank for one in answer] == [False, True, False]
    assert [part.blank.tolist() for part in split(answer, [1, 2])] == [[False], [True, False]]


def test_one_answer_is_pythons_own_numbers() -> None:
    answer = _read(probabilities=ROWS, digits=np.array([0, 1, 2]))
    assert answer[1] == Digit(1, 1.0, (0.0, 1.0, *[0.0] * 8), blank=False, version=5)
    assert json.loads(json.dumps(dataclasses.asdict(answer[1])))["digit"] == 1
    assert [one.digit for one in answer] == [0, 1, 2] == [answer[i].digit for i in (-3, -2, -1)]
    with pytest.raises(IndexError):
        answer[3]


def test_a_slice_is_an_answer() -> None:
    some = _read(probabilities=ROWS)[1:]
    assert isinstance(some, Classification)
    assert (some.digits.tolist(), some.probabilities.shape, some.version) == ([1, 2], (2, 10), 5)


@pytest.mark.parametrize(
    ("n", "shown"),
    [(2, "Classification(n=2, digits=[0, 1], version=5)"),
     (99, "Classification(n=99, digits=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …], version=5)")],
)  # fmt: skip
def test_it_is_shown_in_short(n: int, shown: str) -> None:
    assert repr(_read(n, probabilities=np.eye(10)[np.arange(n) % 10])) == shown
