import json
from typing import Any

import numpy as np
import pytest

from deploy.local.errors import Code, ServingError
from deploy.local.handlers.classification import Classes
from deploy.local.rest import answers


def written(by_row: bool, **outputs: Any) -> str:
    return answers.write_predict(outputs, by_row=by_row).decode()


def test_one_output_by_row() -> None:
    assert (
        written(True, y=np.array([2.5, 3], np.float32))
        == '{\n    "predictions": [2.5, 3.0\n    ]\n}'
    )
    assert written(True, y=np.array([[1, 2], [3, 4]], np.int64)) == (
        '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'
    )
    assert written(True, y=np.zeros((0, 2), np.float32)) == '{\n    "predictions": []\n}'


def test_several_outputs_by_row() -> None:
    assert written(True, p=np.array([[0.5, 1]], np.float32), d=np.array([7], np.int64)) == (
        '{\n    "predictions": [\n        {\n            "d": 7,\n            "p": [0.5, 1.0]\n'
        "        }\n    ]\n}"
    )


def test_columns() -> None:
    assert written(False, y=np.array(6, np.float32)) == '{\n    "outputs": 6.0\n}'
    assert written(False, y=np.array([[True], [False]])) == (
        '{\n    "outputs": [\n        [\n            true\n        ],\n        [\n'
        "            false\n        ]\n    ]\n}"
    )
    several = json.loads(written(False, a=np.array([1], np.uint8), b=np.float64(0.1)))
    assert several == {"outputs": {"a": [1], "b": 0.1}}


def test_strings_and_bytes() -> None:
    value = np.array([b'a"\n', "é".encode()], object)
    assert json.loads(written(True, copy=value)) == {"predictions": ['a"\n', "é"]}
    assert written(True, copy_bytes=np.array([b"abc"], object)) == (
        '{\n    "predictions": [{\n            "b64": "YWJj"\n        }\n    ]\n}'
    )
    body = answers.write_predict({"copy": np.array([b"\xff"], object)}, by_row=False)
    assert body == b'{\n    "outputs": [\n        "\xff"\n    ]\n}'


def test_classes() -> None:
    none = Classes(np.zeros((2, 0), object), np.zeros((2, 0), np.float32))
    assert answers.write_results(none) == b'{\n    "results": [[], []\n    ]\n}'
    odd = Classes(np.array([[b'"\xff']], object), np.array([[1]], np.float32))
    assert answers.write_results(odd) == (b'{\n    "results": [[["\\"\xff", 1.0]]\n    ]\n}')


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.array(1.0)}, "Tensor name: y has no shape information "),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            "Tensor name: b has inconsistent batch size: 3 expecting: 2",
        ),
        ({"y": np.zeros(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_outputs_that_cannot_be_written(outputs: Any, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        answers.write_predict(outputs, by_row=True)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)
