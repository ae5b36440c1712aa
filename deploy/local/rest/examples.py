"""tf.Examples of a JSON body, as a session takes them: each serialized, after what they share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2

from deploy.local.errors import invalid
from deploy.local.rest import json_text
from deploy.local.rest.json_text import Members, dump
from deploy.local.rest.requests import is_base64, parse, signature_name, type_name, unbase64

_KINDS = {str: "bytes", Members: "bytes", float: "float", int: "int64", bool: "int64"}
_CONVERT: dict[type, Callable[[Any], Any]] = {
    str: str.encode,
    Members: unbase64,
    float: float,
    int: int,
    bool: int,
}
_INT64_MAX = 2**63 - 1


def from_json(body: bytes) -> tuple[str, list[bytes]]:
    """The signature's name, perhaps empty, and the Examples of a REST request.

    Raises:
        ServingError: INVALID_ARGUMENT with the server's text.
    """
    document = parse(body)
    name = signature_name(document)
    keys = document.names()
    context = _example(document.get("context")) if "context" in keys else b""
    if "examples" not in keys:
        # The text says classify for regress too.
        why = "When method is classify, key 'examples' is expected and was not found"
        raise invalid(f"JSON Value: {dump(document)} {why}")
    rows = document.get("examples")
    if type(rows) is not list:
        why = "Expecting 'examples' value to be an list/array"
        raise invalid(f"JSON Value: {dump(document)} {why}")
    if not rows:
        raise invalid(f"JSON Value: {dump(document)} 'examples' value is an empty array")
    return name, [context + _example(row) for row in rows]


def _example(value: Any) -> bytes:
    if type(value) is not Members:
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = example_pb2.Example()
    for name, content in value:
        example.features.feature[name].CopyFrom(_feature(name, content))
    serialized: bytes = example.SerializeToString()
    return serialized


def _feature(name: str, content: Any) -> feature_pb2.Feature:
    """One value or a flat list of them; the first decides of which kind all must be."""
    values = content if type(content) is list else [content]
    kind, converted = "", []
    for value in values:
        found = _KINDS.get(type(value))
        if found is None or (type(value) is Members and not is_base64(value)):
            what = type_name(value)
            raise invalid(f"Feature: {name} has element with unexpected JSON type: {what}")
        kind = kind or found
        if found != kind:
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        if kind == "int64" and value > _INT64_MAX:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        converted.append(_CONVERT[type(value)](value))
    feature = feature_pb2.Feature()
    if kind == "float":
        with np.errstate(over="ignore"):
            converted = json_text.flush(np.array(converted).astype(np.float32)).tolist()
    if kind:
        getattr(feature, f"{kind}_list").value.extend(converted)
    return feature
