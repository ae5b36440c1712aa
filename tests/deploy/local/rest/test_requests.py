import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2

from deploy.local.errors import Code, ServingError
from deploy.local.rest import requests
from deploy.local.tensors import DTYPES


def infos(**dtypes: Any) -> dict[str, Any]:
    return {
        alias: SimpleNamespace(dtype=getattr(types_pb2, f"DT_{dtype}"))
        for alias, dtype in dtypes.items()
    }


def read(body: str, **dtypes: Any) -> Any:
    return requests.read_predict(body.encode()).inputs(infos(**dtypes))


def refusal(body: str, **dtypes: Any) -> str:
    with pytest.raises(ServingError) as caught:
        read(body, **dtypes)
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The document is empty"),
        ("   ", "The document is empty. at offset: 3"),
        ("{bad", "Missing a name for object member. at offset: 1"),
        ('{"instances":[1,]}', "Invalid value. at offset: 16"),
        (
            '{"instances":[1,2',
            "Missing a comma or ']' after an array element. at offset: 17",
        ),
        ('{"inputs":["a\nb"]}', "Invalid escape character in string. at offset: 13"),
        ('{"inputs":[1e400]}', "Number too big to be stored in double. at offset: 11"),
        ('{"inputs":' + "[" * 5000, "Terminate parsing due to Handler error. at offset: 0"),
    ],
)
def test_malformed_json(body: str, message: str) -> None:
    assert refusal(body, x="FLOAT") == f"JSON Parse error: {message}"


def test_bytes_that_are_not_utf8() -> None:
    for body, message in [
        (b"\x1f\x8b\x08", "Invalid value. at offset: 0"),
        (b'{"a": "\xff"}', "Invalid encoding in string. at offset: 7"),
        (b'{"a": "\xff" 1}', "Missing a comma or '}' after an object member. at offset: 10"),
    ]:
        with pytest.raises(ServingError) as caught:
            requests.parse(body)
        assert caught.value.message == f"JSON Parse error: {message}"


@pytest.mark.parametrize("tail", ["", " trailing", "}", "\0"])
@pytest.mark.parametrize("head", ["", "\ufeff", " \n"])
def test_text_around_the_object(head: str, tail: str) -> None:
    arrays, by_row = read(head + '{"instances": [1]}' + tail, x="FLOAT")
    assert (arrays["x"].tolist(), by_row) == ([1.0], True)


def test_the_first_of_repeated_names_counts() -> None:
    body = '{"signature_name": "a", "signature_name": "b", "inputs": [1], "inputs": [2]}'
    request = requests.read_predict(body.encode())
    assert request.signature_name == "a"
    assert request.inputs(infos(x="FLOAT"))[0]["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("FLOAT", [1, 2.5, -0.0], [1.0, 2.5, -0.0]),
        ("FLOAT", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
        ("FLOAT", [], []),
        ("FLOAT", [[], []], [[], []]),
        ("FLOAT", 3, 3.0),
        ("FLOAT", [1e39, 1e-40], [float("inf"), 0.0]),
        ("DOUBLE", [16777217, 5e-324], [16777217.0, 0.0]),
        ("UINT8", [255, 256, 300, -1], [255, 0, 44, 255]),
        ("INT64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("BOOL", [True, False], [True, False]),
        (
            "STRING",
            ["é", {"b64": "aGVsbG8"}, {"b64": "aGVs bG8="}],
            ["é".encode(), b"hello", b"hello"],
        ),
        ("BFLOAT16", [], []),
    ],
)
def test_values(dtype: str, value: Any, expected: Any) -> None:
    array = read(json.dumps({"inputs": value}), x=dtype)[0]["x"]
    assert array.tolist() == expected
    assert array.dtype == DTYPES[getattr(types_pb2, f"DT_{dtype}")].numpy
    if isinstance(value, list) and value:
        rows, by_row = read(json.dumps({"instances": [{"x": item} for item in value]}), x=dtype)
        assert by_row
        np.testing.assert_array_equal(rows["x"], array)


@pytest.mark.parametrize("text", ["NaN", "Inf", "-Infinity"])
def test_numbers_that_json_lacks(text: str) -> None:
    value = read(f'{{"inputs": {text}}}', x="FLOAT")[0]["x"]
    assert str(float(value)) == text.lower().removesuffix("inity")


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("FLOAT", '["a"]', 'JSON Value: "a" Type: String is not of expected type: float'),
        ("FLOAT", "[true]", "JSON Value: true Type: True is not of expected type: float"),
        ("FLOAT", "[1, null]", "JSON Value: null Type: Null is not of expected type: float"),
        ("FLOAT", "[{}]", "JSON Value: {} Type: Object is not of expected type: float"),
        ("INT8", "[1e3]", "JSON Value: 1000.0 Type: Number is not of expected type: int8"),
        (
            "INT32",
            "[2147483648]",
            "JSON Value: 2147483648 Type: Number is not of expected type: int32",
        ),
        ("UINT64", "[-1]", "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ("BOOL", "[1]", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("FLOAT", "[1, [2]]", "Encountered list at unexpected level: 1 expected < 1"),
        (
            "FLOAT",
            "[[1], [2, 3]]",
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            "FLOAT",
            "[[1], 2]",
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ("STRING", '[{"b64": "!!!!"}]', "Unable to base64 decode"),
        ("STRING", '[{"b64": "aGVsb"}]', "Unable to base64 decode"),
        ("STRING", '[{"b64": "aGVsbG8=="}]', "Unable to base64 decode"),
        ("HALF", "[1]", "Conversion of JSON Value: 1 to type: half"),
    ],
)
def test_refused_values(dtype: str, value: Any, message: str) -> None:
    assert refusal(f'{{"inputs": {value}}}', x=dtype) == message


def test_an_unsupported_type_is_unimplemented_in_columns_and_invalid_in_rows() -> None:
    for body, code in [('{"inputs":[1]}', 12), ('{"instances":[1]}', 3)]:
        with pytest.raises(ServingError) as caught:
            read(body, x="HALF")
        assert caught.value.code == Code(code)
        assert "Conversion of JSON Value: 1 to type: half" in caught.value.message


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        (
            "[[1, 2], [3]]",
            "1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        ),
        (
            "[[[1, 2], [3, 4]], [1, 2, 3, 4]]",
            "1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2,2] but got: [4]",
        ),
        (
            '[{"x": 1}, {"x": "a"}]',
            "1 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String"
            " is not of expected type: float",
        ),
        (
            '[{"x": 1, "z": 2}]',
            "0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have"
            " named input: z",
        ),
        ("[{}]", "0 of 'instances' list. JSON object: {} keys must be equal to: x"),
    ],
)
def test_refused_rows(instances: str, message: str) -> None:
    assert refusal(f'{{"instances": {instances}}}', x="FLOAT") == (
        f"Failed to process element: {message}"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[1]", "JSON Value: [1] Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"instances": []}',
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            '{"instances": [1]}',
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            "inputs is a plain value/list, but expecting an object as multiple input tensors"
            " required as per tensorinfo_map",
        ),
        ('{"inputs": {"a": [1]}}', "Missing named input: b in 'inputs' object."),
        (
            '{"instances": [{"a": 1, "b": 2}, 3]}',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            '{"instances": [{"a": 1}]}',
            "Failed to process element: 0 of 'instances' list. JSON object:"
            ' {\n    "a": 1\n} keys must be equal to: a,b',
        ),
        (
            '{"signature_name": 5}',
            'JSON Value: {\n    "signature_name": 5\n} not formatted correctly.'
            " 'signature_name' key must be a string value.",
        ),
    ],
)
def test_refused_requests(body: str, message: str) -> None:
    assert refusal(body, a="FLOAT", b="INT32") == message


def test_extra_names_in_columns_are_ignored() -> None:
    arrays, by_row = read('{"inputs": {"x": [1], "y": "z"}}', x="FLOAT")
    assert (list(arrays), by_row) == (["x"], False)
