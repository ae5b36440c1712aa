from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.local.errors import ServingError
from deploy.local.handlers.prediction import as_given, predict
from deploy.local.models import servable

A, B = np.array([1, 2], np.float32), np.array([3, 4], np.int32)


@pytest.fixture(scope="module")
def shapes(models: Path) -> Any:
    loaded = servable.load("shapes", 1, models / "shapes" / "1")
    yield loaded
    loaded.close()


def test_all_outputs(shapes: Any) -> None:
    answer = predict(shapes, "", {"a": A, "b": B}, as_given)
    assert {alias: array.tolist() for alias, array in answer.items()} == {
        "sum": [4, 6],
        "b": [3, 4],
    }


def test_output_filter(shapes: Any) -> None:
    assert list(predict(shapes, "", {"a": A, "b": B}, as_given, ["sum"])) == ["sum"]


def test_defaults(shapes: Any) -> None:
    assert predict(shapes, "scaled", {"a": A}, as_given)["y"].tolist() == [3, 6]
    scale = np.array(5, np.float32)
    assert predict(shapes, "scaled", {"a": A, "scale": scale}, as_given)["y"].tolist() == [5, 10]


def test_scalar_and_string_outputs_are_arrays(shapes: Any) -> None:
    text = np.array(b"x", object)
    assert predict(shapes, "text", {"text": text}, as_given)["copy"].shape == ()
    assert predict(shapes, "scalar", {"a": A}, as_given)["total"] == 3


@pytest.mark.parametrize(
    ("signature", "inputs", "output_filter", "error"),
    [
        ("nosuch", {}, [], 'FAILED_PRECONDITION: Serving signature key "nosuch" not found.'),
        (
            "",
            {"a": A},
            [],
            "INVALID_ARGUMENT: input size does not match signature: 1!=2 len({a}) != len({a,b})."
            " Sent extra: {}. Missing but required: {b}.",
        ),
        (
            "",
            {"a": A, "x": B},
            [],
            "INVALID_ARGUMENT: Signature input alias: b(feed name: b:0) not found in request and no"
            " default value provided. Inputs expected to be in the request {a,x}, or default input"
            " alias set: ",
        ),
        (
            "scaled",
            {"a": A, "x": B},
            [],
            "INVALID_ARGUMENT: Inputs contains invalid name. Used request inputs: a, request"
            " input: a,x",
        ),
        (
            "",
            {"a": A, "b": B},
            ["sum", "y"],
            "INVALID_ARGUMENT: output tensor alias not found in signature: y Outputs expected to be"
            " in the set {b,sum}.",
        ),
        (
            "",
            {"a": A, "b": B},
            ["b", "b"],
            "INVALID_ARGUMENT: duplicate output tensor alias: b",
        ),
        (
            "",
            {"a": A, "b": A},
            [],
            "INVALID_ARGUMENT: Expects arg[1] to be int32 but float is provided",
        ),
    ],
)
def test_refusals(
    shapes: Any, signature: str, inputs: Any, output_filter: list[str], error: str
) -> None:
    with pytest.raises(ServingError) as caught:
        predict(shapes, signature, inputs, as_given, output_filter)
    assert str(caught.value) == error


def test_method_names_are_checked_on_request(shapes: Any) -> None:
    shapes.signatures["scalar"].method_name = "my/method"
    assert predict(shapes, "scalar", {"a": A}, as_given)
    with pytest.raises(ServingError, match=r"INTERNAL|Was: my/method$"):
        predict(shapes, "scalar", {"a": A}, as_given, check_method=True)
