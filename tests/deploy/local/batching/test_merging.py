import re
from typing import Any

import numpy as np
import pytest

from deploy.local.batching.merging import merge, rows_of
from deploy.local.errors import ServingError
from deploy.local.tensors import Array


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"a": floats(1), "b": np.float32(1)}, "Batching Run() input tensors must have at least"),
        ({"a": floats(1), "b": floats(1, 2)}, "Batching Run() input tensors must have equal 0th-"),
    ],
)
def test_inputs_without_common_rows(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(ServingError, match=f"^INVALID_ARGUMENT: {re.escape(message)}"):
        rows_of(feeds)


def test_merging_keeps_the_order_and_repeats_the_last_tasks_first_row() -> None:
    assert merge([{"x": floats(1)}, {"x": floats(2, 3)}], 2)["x"].tolist() == [1, 2, 3, 2, 2]


def test_merging_repeats_no_row_of_a_task_that_has_none() -> None:
    assert merge([{"x": floats(1, 2)}, {"x": floats()}], 1)["x"].tolist() == [1, 2, 1]


def test_merging_refuses_other_shapes() -> None:
    with pytest.raises(ServingError) as caught:
        merge([{"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}])
    assert str(caught.value) == (
        "FAILED_PRECONDITION: Tensors with name 'x' from different tasks have different shapes and"
        " padding is turned off. Set pad_variable_length_inputs to true, or ensure that all"
        " tensors with the same name have equal dimensions starting with the first dim."
    )


def test_merging_refuses_other_types() -> None:
    with pytest.raises(ServingError) as caught:
        merge([{"x": np.zeros(1, np.float32)}, {"x": np.zeros(1)}])
    assert str(caught.value) == (
        "INTERNAL: Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors"
        " that have different data types. Got float and double."
    )


def test_merging_pads_with_each_tensors_first_element() -> None:
    short, long = np.array([[7], [8]]), np.array([[1, 2, 3]])
    merged = merge([{"x": short}, {"x": long}], 1, pad=True)["x"]
    assert merged.tolist() == [[7, 7, 7], [8, 7, 7], [1, 2, 3], [1, 2, 3]]
    words = np.array([[b"a"]], object), np.array([[b"b", b"c"]], object)
    padded = merge([{"x": each} for each in words], pad=True)["x"]
    assert padded.tolist() == [[b"a", b"a"], [b"b", b"c"]]
    empty = merge([{"x": np.zeros((0, 1))}, {"x": np.ones((1, 2))}], pad=True)["x"]
    assert empty.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((1, 2), (1, 2, 1), "FAILED_PRECONDITION: Tensors with name 'x' from different tasks"),
        ((1, 0), (1, 2), "INVALID_ARGUMENT: Got empty tensor in batch of non-empty tensors."),
        ((1,) * 7, (1,) * 7, "INVALID_ARGUMENT: Only tensors with rank from 1 to 6 can be padded."),
    ],
)
def test_what_cannot_be_padded(first: Any, second: Any, message: str) -> None:
    with pytest.raises(ServingError, match=f"^{re.escape(message)}"):
        merge([{"x": np.zeros(first)}, {"x": np.zeros(second)}], pad=True)
