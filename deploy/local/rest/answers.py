"""Arrays to bodies of REST answers, and errors to theirs."""

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deploy.local.errors import invalid
from deploy.local.handlers.classification import Classes, Result
from deploy.local.rest import json_text
from deploy.local.rest.json_text import Members
from deploy.local.tensors import DTYPES, Array, dtype_of

_BOOLEANS = {True: "true", False: "false"}
_WRITERS: dict[str, Callable[[Array], list[str]]] = {
    "float": json_text.floats,
    "double": json_text.floats,
    "bool": lambda array: [_BOOLEANS[value] for value in array.ravel().tolist()],
    **dict.fromkeys(
        ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"),
        lambda array: list(map(str, array.ravel().tolist())),
    ),
}


def write_predict(outputs: Mapping[str, Array], *, by_row: bool) -> bytes:
    """The body of a predict answer.

    Raises:
        ServingError: INVALID_ARGUMENT for a type that JSON is not written for, or outputs
            that are not rows although rows were asked for.
    """
    if by_row:
        _check_rows(outputs)
    trees = {alias: _tree(alias, outputs[alias]) for alias in sorted(outputs)}
    if not by_row:
        value = Members(trees.items()) if len(trees) > 1 else next(iter(trees.values()))
        return _encode(json_text.layout(Members([("outputs", value)])))
    if len(trees) > 1:
        rows = [Members(zip(trees, row, strict=True)) for row in zip(*trees.values(), strict=True)]
        objects = ("".join(json_text.layout(row, flat=True, level=2)) for row in rows)
        text = "[" + ",".join("\n        " + each for each in objects)
    else:
        (rows,) = trees.values()
        text = "".join(json_text.layout(rows, flat=True, level=1)).removesuffix("]")
    closing = "\n    ]" if rows else "]"
    return _encode(['{\n    "predictions": ', text, closing, "\n}"])


def write_results(result: Result) -> bytes:
    """The body of a classify or regress answer."""
    if isinstance(result, Classes):
        labels = [_string("", label) for label in result.labels.ravel().tolist()]
        pairs = map(list, zip(labels, json_text.floats(result.scores), strict=True))
        rows = _nest(list(pairs), result.scores.shape)
        text = "".join(json_text.layout(rows, flat=True, level=1)).removesuffix("]") + "\n    ]"
    else:
        text = "".join(json_text.layout(json_text.floats(result), flat=True, level=1))
    return _encode(['{\n    "results": ', text, "\n}"])


def write_error(message: str) -> bytes:
    """The body of every error."""
    return _encode(json_text.layout(Members([("error", json_text.quote(message))])))


def _encode(pieces: Iterable[str]) -> bytes:
    return "".join(pieces).encode("utf-8", "surrogateescape")


def _check_rows(outputs: Mapping[str, Array]) -> None:
    rows = None
    for alias, array in sorted(outputs.items()):
        if array.ndim == 0:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        rows = array.shape[0] if rows is None else rows
        if array.shape[0] != rows:
            raise invalid(
                f"Tensor name: {alias} has inconsistent batch size: {array.shape[0]}"
                f" expecting: {rows}"
            )


def _tree(alias: str, array: Array) -> Any:
    """Nested lists of JSON text."""
    name = DTYPES[dtype_of(array)].name
    leaves: list[Any]
    if not array.size:
        leaves = []
    elif name == "string":
        leaves = [_string(alias, value) for value in array.ravel().tolist()]
    elif name in _WRITERS:
        leaves = _WRITERS[name](array)
    else:
        raise invalid(f"Failed to write JSON value for tensor type: {name}")
    return _nest(leaves, array.shape)


def _string(alias: str, value: bytes) -> Any:
    if alias.endswith("_bytes"):
        return Members([("b64", f'"{base64.b64encode(value).decode()}"')])
    return json_text.quote(value.decode("utf-8", "surrogateescape"))


def _nest(leaves: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return leaves[0]
    if len(shape) == 1:
        return leaves
    step = math.prod(shape[1:])
    return [_nest(leaves[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
