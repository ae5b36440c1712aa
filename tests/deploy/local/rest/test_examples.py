import json
from typing import Any

import pytest
from tensorflow.core.example import example_pb2

from deploy.local.errors import ServingError
from deploy.local.rest import examples


def features(body: str) -> list[dict[str, list[Any]]]:
    """The values that a REST request's Examples hold, by name."""
    found = [example_pb2.Example.FromString(text) for text in examples.from_json(body.encode())[1]]
    return [
        {
            name: [value for _, values in feature.ListFields() for value in values.value]
            for name, feature in example.features.feature.items()
        }
        for example in found
    ]


def test_values_become_features() -> None:
    assert features('{"examples": [{"f": 1e39, "b": [true, -3], "s": ["é", {"b64": "/w"}]}]}') == [
        {"f": [float("inf")], "b": [1, -3], "s": ["é".encode(), b"\xff"]}
    ]


def test_subnormal_numbers_are_zeros() -> None:
    assert features('{"examples": [{"x": [1e-40, 1e-38]}]}')[0]["x"] == [0, pytest.approx(0)]


def test_of_repeated_names_the_last_counts_and_of_repeated_keys_the_first() -> None:
    assert features('{"examples": [{"x": 1, "x": []}], "examples": 5}') == [{"x": []}]


def test_a_context_is_merged_into_each_example() -> None:
    assert features('{"context": {"a": 1, "b": 2}, "examples": [{"b": 3}, {}]}') == [
        {"a": [1], "b": [3]},
        {"a": [1], "b": [2]},
    ]


def test_a_context_is_read_before_the_examples_are_missed() -> None:
    with pytest.raises(ServingError, match="Example must be JSON object but got JSON String"):
        examples.from_json(b'{"context": "a"}')


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([2**63, "a"], "Feature: x has uint64_t element. Only int64_t is supported."),
        ([{"b64": "a"}, 1], "Unable to base64 decode"),
        (["a", 2**63], "Unexpected element type in feature: x expecting type: bytes"),
    ],
)
def test_the_first_fault_of_a_list_is_told(values: list[Any], fault: str) -> None:
    with pytest.raises(ServingError) as caught:
        examples.from_json(json.dumps({"examples": [{"x": values}]}).encode())
    assert caught.value.message == fault
