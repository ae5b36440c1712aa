"""Requests for a comparison: rows of a file, or live requests that the gateway has kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.operate.errors import InputError
from deploy.release import golden
from deploy.release.errors import Unreadable
from tfserving_client import Signature, serialize_example
from tfserving_client.grpc import messages
from tfserving_client.grpc.wire import read_tensor
from tfserving_client.tensors.conversion import conformed

Array = NDArray[Any]

DEFAULT = "serving_default"  # the signature of requests that name none
_ROWS = 32  # of a request made from a file
_MOST_BYTES = 64 << 20  # of the arrays of a request: a short request can claim any shape


@dataclass(frozen=True, slots=True)
class Request:
    """One request of Predict.

    Attributes:
        signature: the signature that answers it.
        inputs: arrays by input name.
        as_sent: whether the dtypes are as the caller sent them; otherwise they are converted to
            those of the version.
    """

    signature: str
    inputs: Mapping[str, Array]
    as_sent: bool = False


def read(path: Path) -> dict[str, Array]:
    """The rows of a file: an `.npz` of arrays by input name, of as many rows each.

    Raises:
        InputError: it is not such a file.
    """
    try:
        arrays = golden.unpacked(path)
    except Unreadable as error:
        raise InputError(str(error)) from None
    except Exception as error:  # a damaged file can raise errors of any kind
        raise InputError(f"{path}: {error}; expected an .npz of arrays by input name") from None
    rows = {len(array) for array in arrays.values() if array.ndim}
    if len(rows) != 1 or not min(rows):
        raise InputError(
            f"{path} holds {sorted(rows) or 'no'} rows; expected arrays of as many rows each"
        )
    return arrays


def of_rows(inputs: Mapping[str, Array], signature: str) -> list[Request]:
    """Requests of 32 rows, the last of fewer."""
    starts = range(0, golden.count(inputs), _ROWS)
    return [
        Request(signature, golden.part(inputs, slice(start, start + _ROWS))) for start in starts
    ]


def of_lines(lines: bytes, signatures: Mapping[str, Signature]) -> tuple[list[Request], int]:
    """Live requests, as `deploy/gateway/shadow.js` writes them, and the number of others.

    Classify and Regress become Predict, which takes the same examples serialized.

    Args:
        lines: of JSON: the `path` and the `body` in base64, over gRPC that of the message.
        signatures: of the version that answered them.
    """
    found, others = [], 0
    for line in lines.splitlines():
        try:
            request = _request(json.loads(line), signatures)
            if sum(array.nbytes for array in request.inputs.values()) > _MOST_BYTES:
                raise ValueError("more than a request may hold")
            found.append(request)
        except Exception:  # what callers send can raise errors of any kind
            others += 1
    return found, others


def _request(entry: Mapping[str, str], signatures: Mapping[str, Signature]) -> Request:
    path, body = entry["path"], base64.b64decode(entry["body"])
    if path.startswith("/v1/"):
        given = json.loads(body, object_hook=_bytes)
        name = given.get("signature_name") or DEFAULT
        if path.endswith(":predict"):
            return Request(name, conformed(name, signatures[name], _inputs(given)))
        shared = given.get("context", {})
        rows = [serialize_example({**shared, **row}) for row in given["examples"]]
        return _examples(name, rows, signatures)
    if path.endswith("/Predict"):
        message = messages.PredictRequest.FromString(body)
        arrays = {alias: read_tensor(message.inputs[alias]) for alias in message.inputs}
        return Request(message.model_spec.signature_name or DEFAULT, arrays, as_sent=True)
    message = messages.ExamplesRequest.FromString(body)
    given = message.input
    # Messages one after the other are one message of both.
    common = given.example_list_with_context.context.SerializeToString()
    both = [*given.example_list.examples, *given.example_list_with_context.examples]
    rows = [common + each.SerializeToString() for each in both]
    return _examples(message.model_spec.signature_name or DEFAULT, rows, signatures)


def _bytes(members: dict[str, Any]) -> Any:
    """Of JSON, the object that stands for bytes."""
    return base64.b64decode(members["b64"]) if members.keys() == {"b64"} else members


def _inputs(given: Mapping[str, Any]) -> Any:
    """Input name → values, or the values of the only input."""
    if "inputs" in given:
        return given["inputs"]
    rows = given["instances"]
    if not isinstance(rows[0], dict):
        return rows
    return {alias: [row[alias] for row in rows] for alias in rows[0]}


def _examples(name: str, rows: list[bytes], signatures: Mapping[str, Signature]) -> Request:
    (alias,) = signatures[name].inputs
    if not rows:
        raise ValueError("no example")
    return Request(name, {alias: np.array(rows, object)})
