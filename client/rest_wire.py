"""The three calls as TensorFlow Serving's REST bodies."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from client.errors import (
    AccessDenied,
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from client.exchange import Answer, Exchange, Prediction
from client.images import Batch
from client.results import Metadata, Signature, State, TensorSpec, VersionStatus

# Every status that TensorFlow Serving emits, and those of a proxy before it.
ERRORS: Mapping[int, type[CallError]] = {
    400: Rejected,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    408: DeadlineExceeded,
    409: ServerFailed,
    413: Rejected,
    429: Overloaded,
    499: ServerFailed,
    500: ServerFailed,
    501: Rejected,
    502: Unreachable,
    503: Unreachable,
    504: DeadlineExceeded,
}

# What reading another program's JSON can lead to.
_UNREADABLE = (
    AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class RestWire:
    """Exchanges whose `method` is an HTTP verb and a path."""

    def predict(self, context: CallContext, batch: Batch) -> Exchange[Prediction]:
        """Run one signature on a batch.

        The columnar form (`inputs`): its answers avoid the 40 ms steps that the row form has on
        the real server, which writes them in pieces that wait for delayed acknowledgements.
        """
        values: Any = (
            [{"b64": base64.b64encode(data).decode()} for data in batch.values]
            if isinstance(batch.values, list)
            else batch.values.tolist()
        )
        body = {"signature_name": batch.signature, "inputs": values}
        return _exchange(
            context,
            f"POST {_path(context)}:predict",
            json.dumps(body, separators=(",", ":")).encode(),
            lambda answer: _read_prediction(answer, context.version),
        )

    def status(self, context: CallContext) -> Exchange[tuple[VersionStatus, ...]]:
        """State of every version the server has seen, newest first."""
        return _exchange(context, f"GET {_path(context)}", b"", _read_status)

    def metadata(self, context: CallContext) -> Exchange[Metadata]:
        """Signatures of a loaded version."""
        return _exchange(context, f"GET {_path(context)}/metadata", b"", _read_metadata)


def failure(context: CallContext, status: int, body: bytes) -> CallError:
    """The error that an HTTP answer other than 200 tells of."""
    text = body.decode(errors="replace")
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not TensorFlow Serving's JSON: a proxy's page, or another program altogether.
        text = " ".join(text[:200].split())
        if status in {400, 404, 405}:
            return BadResponse(context, f"HTTP {status} {text}")
    return ERRORS.get(status, BadResponse)(context, f"HTTP {status} {text}")


def _path(context: CallContext) -> str:
    path = f"/v1/models/{quote(context.model, safe='')}"
    if context.version is not None:
        path += f"/versions/{context.version}"
    if context.label is not None:
        path += f"/labels/{quote(context.label, safe='')}"
    return path


def _exchange(
    context: CallContext, method: str, body: bytes, read: Callable[[Any], Answer]
) -> Exchange[Answer]:
    def decode(answer: bytes) -> Answer:
        try:
            return read(json.loads(answer))
        except _UNREADABLE as error:
            raise BadResponse(context, f"unreadable answer: {error!r}") from error

    return Exchange(context, method, body, decode)


def _read_prediction(answer: Any, version: int | None) -> Prediction:
    outputs = answer["outputs"]
    if not isinstance(outputs, dict):  # a signature's only output comes without its name
        outputs = {"scores": outputs}
    # JSON has no dtypes: what is written without a point is an integer.
    arrays = {alias: np.asarray(values) for alias, values in outputs.items()}
    return Prediction(arrays, version)


def _read_status(answer: Any) -> tuple[VersionStatus, ...]:
    return tuple(
        VersionStatus(
            int(entry["version"]), State(entry["state"]), entry["status"]["error_message"]
        )
        for entry in answer["model_version_status"]
    )


def _read_metadata(answer: Any) -> Metadata:
    spec, signatures = answer["model_spec"], answer["metadata"]["signature_def"]["signature_def"]
    return Metadata(
        spec["name"],
        int(spec["version"]),
        {
            name: Signature(_read_specs(definition["inputs"]), _read_specs(definition["outputs"]))
            for name, definition in signatures.items()
        },
    )


def _read_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _read_spec(info) for alias, info in infos.items()}


def _read_spec(info: Any) -> TensorSpec:
    shape = info["tensor_shape"]
    if shape["unknown_rank"]:
        return TensorSpec(info["dtype"], None)
    sizes = (int(dim["size"]) for dim in shape["dim"])
    return TensorSpec(info["dtype"], tuple(size if size >= 0 else None for size in sizes))
