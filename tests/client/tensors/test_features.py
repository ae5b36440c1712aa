from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfserving_client import InvalidInput, serialize_example
from tfserving_client.tensors.features import checked_examples


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, "int64_list", [1]), (True, "int64_list", [1]), (-(2**63), "int64_list", [-(2**63)]),
        (1.0, "float_list", [1.0]), ([1, 0.5], "float_list", [1.0, 0.5]),
        ("ä", "bytes_list", ["ä".encode()]), ([b"a", "b"], "bytes_list", [b"a", b"b"]),
        (np.array([1, 2], np.uint8), "int64_list", [1, 2]), (np.float32(0.5), "float_list", [0.5]),
        (np.array(["a"]), "bytes_list", [b"a"]), ((1, 2), "int64_list", [1, 2]),
    ],
)  # fmt: skip
def test_features_are_of_the_kind_of_their_values(value: Any, kind: str, expected: Any) -> None:
    read = tf.train.Example.FromString(serialize_example({"x": value})).features.feature["x"]
    assert read.WhichOneof("kind") == kind
    assert list(getattr(read, kind).value) == expected


def test_an_empty_feature_has_no_kind() -> None:
    read = tf.train.Example.FromString(serialize_example({"x": []})).features.feature
    assert read["x"].WhichOneof("kind") is None


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({"x": 1}, "examples are a dict; expected a list of mappings"),
        ([], "no example is given"),
        ([3], "example 0 is an int; expected a mapping"),
        ([{}, {"x": None}], "feature 'x' of example 1 holds None, a NoneType; expected numbers"),
        ([{"x": [[1]]}], "feature 'x' of example 0 is nested"),
        ([{"x": [[1], [2, 3]]}], "feature 'x' of example 0 holds \\[1\\], a list"),
        ([{"x": 2**63}], "feature 'x' of example 0 holds an integer of more than 64 bits"),
        ([{"x": 1e39}], "feature 'x' of example 0 holds a number that is too large for float32"),
        ([{"x": [10**400, 0.5]}], "feature 'x' of example 0 holds a number that is too large"),
        ([{"x": ["a", 1]}], "feature 'x' of example 0 holds 'a', a str; expected numbers"),
    ],
)
def test_what_no_feature_can_hold_is_refused(examples: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        checked_examples(examples)
