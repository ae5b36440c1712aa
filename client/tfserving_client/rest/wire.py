"""The calls as TensorFlow Serving's REST bodies."""

from __future__ import annotations

import base64
import json
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tfserving_client.call.exchange import FULL_QUEUE, Answer, Exchange, Inputs
from tfserving_client.errors import (
    AccessDenied,
    BadResponse,
    CallContext,
    CallError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from tfserving_client.results import (
    Label,
    Metadata,
    Prediction,
    Signature,
    State,
    TensorSpec,
    VersionStatus,
)
from tfserving_client.tensors import dtypes
from tfserving_client.tensors.features import Features

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

    def predict(
        self,
        context: CallContext,
        inputs: Inputs,
        outputs: Sequence[str] = (),
        declared: Signature | None = None,
    ) -> Exchange[Prediction]:
        """Run the signature that the context names.

        The columnar form (`inputs`): its answers avoid the 40 ms steps that the row form has on
        the real server, which writes them in pieces that wait for delayed acknowledgements. The
        server always sends all outputs; those that are not wanted are dropped here.

        Raises:
            InvalidInput: JSON, or what the server makes of it, does not hold this.
        """
        _check(inputs, declared)
        signature = json.dumps(context.signature).encode()
        return _exchange(
            context,
            f"POST {_path(context)}:predict",
            # Of a long text joining makes one copy, formatting several.
            b"".join((b'{"signature_name":', signature, b',"inputs":', *_json(inputs), b"}")),
            lambda answer: _read_prediction(answer, context.version, outputs, declared),
        )

    def classify(
        self, context: CallContext, examples: Sequence[Features]
    ) -> Exchange[list[list[Label]]]:
        """The labels of each example, by a signature for it."""
        return _exchange(
            context,
            f"POST {_path(context)}:classify",
            _examples(context, examples),
            lambda answer: [
                [Label(str(label), float(score)) for label, score in row]
                for row in answer["results"]
            ],
        )

    def regress(
        self, context: CallContext, examples: Sequence[Features]
    ) -> Exchange[NDArray[np.float32]]:
        """The number of each example, by a signature for it."""
        return _exchange(
            context,
            f"POST {_path(context)}:regress",
            _examples(context, examples),
            lambda answer: np.array(answer["results"], np.float32),
        )

    def status(self, context: CallContext) -> Exchange[tuple[VersionStatus, ...]]:
        """State of every version the server has seen, newest first."""
        return _exchange(context, f"GET {_path(context)}", b"", _read_status)

    def metadata(self, context: CallContext) -> Exchange[Metadata]:
        """Signatures of a loaded version."""
        return _exchange(context, f"GET {_path(context)}/metadata", b"", _read_metadata)


def failure(
    context: CallContext, status: int, headers: Mapping[str, str], body: bytes
) -> CallError:
    """The error that an HTTP answer other than 200 tells of; header names in lower case."""
    text = body.decode(errors="replace")
    kind = ERRORS.get(status, BadResponse)
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not TensorFlow Serving's JSON: a proxy's page, or another program altogether.
        text = " ".join(text[:200].split())
        if status in {400, 404, 405}:
            kind = BadResponse
    if FULL_QUEUE in str(text):
        kind = Overloaded
    return kind(context, f"HTTP {status} {text}", _retry_after(headers.get("retry-after", "")))


def _retry_after(value: str) -> float | None:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def _json(inputs: Inputs) -> list[bytes]:
    """In pieces. An only input goes without its name."""
    if len(inputs) == 1:
        return [*_values(*inputs.values())]
    pieces = [b"{"]
    for alias, values in inputs.items():
        pieces += json.dumps(alias).encode(), b":", *_values(values), b","
    return [*pieces[:-1], b"}"]


def _values(values: NDArray[Any] | list[bytes]) -> Iterable[bytes]:
    if isinstance(values, list):
        encoded = [b2a_base64(data, newline=False) for data in values]
        text = b'"},{"b64":"'.join(encoded)
        return (b'[{"b64":"', text, b'"}]') if encoded else (b"[]",)
    return (_array(values),)


def _array(values: NDArray[Any]) -> bytes:
    kind = values.dtype.kind
    if kind == "O":
        return json.dumps(values.tolist(), default=_base64, separators=(",", ":")).encode()
    if kind == "f" and not np.isfinite(values).all():
        return json.dumps(values.tolist(), separators=(",", ":")).encode()  # NaN and Infinity
    # Lists of finite numbers print as JSON, four times faster than json.dumps writes them.
    text = str(values.tolist()).replace(" ", "")
    return (text.lower() if kind == "b" else text).encode()


def _examples(context: CallContext, examples: Sequence[Features]) -> bytes:
    body = {"signature_name": context.signature, "examples": examples}
    return json.dumps(body, default=_base64, separators=(",", ":")).encode()


def _base64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def _check(inputs: Inputs, declared: Signature | None) -> None:
    """Refuse what the server's JSON cannot carry, or would change on the way."""
    for alias, values in inputs.items():
        if not isinstance(values, list):
            _check_input(alias, values)
            # Who asks without a signature wants no such check.
            if declared and values.dtype in _TINIEST and _has_subnormal(values):
                raise InvalidInput(
                    f"input {alias!r} holds numbers that are not 0 and nearer to it than "
                    f"{_TINIEST[values.dtype]:.3g}, which the server reads as 0 over REST; round "
                    "them to 0, or ask over gRPC"
                )
    if declared is None:
        return
    for alias, spec in declared.outputs.items():
        if spec.dtype not in _CARRIED:
            raise InvalidInput(
                f"output {alias!r} is {spec.dtype}, which REST cannot carry; ask over gRPC"
            )
    if absent := [alias for alias in declared.inputs if alias not in inputs]:
        raise InvalidInput(
            f"input {absent[0]!r} is left out, but over REST the server has no defaults; "
            "give it a value, or ask over gRPC"
        )


def _check_input(alias: str, values: NDArray[Any]) -> None:
    row = dtypes.BY_NUMPY[values.dtype]
    if row.name not in _CARRIED:
        raise InvalidInput(f"input {alias!r} is {row.name}, which REST cannot carry; ask over gRPC")
    if 0 in values.shape[:-1]:
        raise InvalidInput(
            f"input {alias!r} has shape {values.shape}, and in JSON what follows the 0 is lost; "
            "ask over gRPC"
        )


# The server reads no others from JSON, and writes no others.
_CARRIED = {
    "DT_FLOAT", "DT_DOUBLE", "DT_INT8", "DT_UINT8", "DT_INT16", "DT_INT32", "DT_INT64",
    "DT_UINT32", "DT_UINT64", "DT_BOOL", "DT_STRING",
}  # fmt: skip
_TINIEST = {np.dtype(kind): float(np.finfo(kind).tiny) for kind in ("<f4", "<f8")}


def _has_subnormal(values: NDArray[Any]) -> bool:
    return bool(((values != 0) & (np.abs(values) < _TINIEST[values.dtype])).any())


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
            return read(_parsed(answer))
        except _UNREADABLE as error:
            raise BadResponse(context, f"unreadable answer: {error!r}") from error

    return Exchange(context, method, body, decode)


def _parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except UnicodeDecodeError:  # the server writes strings as they are, whatever they hold
        return json.loads(answer.decode("utf-8", "surrogateescape"))


def _read_prediction(
    answer: Any, version: int | None, wanted: Sequence[str], declared: Signature | None
) -> Prediction:
    outputs = answer["outputs"]
    if declared is None:
        if not isinstance(outputs, dict):
            outputs = {"": outputs}
        # JSON has no dtypes: what is written without a point is an integer.
        arrays = {alias: np.asarray(values) for alias, values in outputs.items()}
    else:
        if len(declared.outputs) == 1:
            outputs = dict.fromkeys(declared.outputs, outputs)
        arrays = {alias: _read(outputs[alias], spec) for alias, spec in declared.outputs.items()}
    return Prediction({alias: arrays[alias] for alias in wanted or arrays}, version)


def _read(values: Any, spec: TensorSpec) -> NDArray[Any]:
    row = dtypes.BY_NAME[spec.dtype]
    with np.errstate(over="ignore"):  # another server's number may be anything
        array = np.array(values, row.numpy)
    if row is dtypes.STRING:
        for index, text in enumerate(array.flat):
            array.flat[index] = _read_string(text)
    if array.size == 0 and spec.shape:  # JSON loses the sizes that follow a 0
        array = array.reshape(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]))
    return array


def _read_string(text: Any) -> bytes:
    if isinstance(text, dict):
        return base64.b64decode(text["b64"], validate=True)
    found: bytes = text.encode("utf-8", "surrogateescape")
    return found


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
            name: Signature(
                _read_specs(definition["inputs"]),
                _read_specs(definition["outputs"]),
                tuple(sorted(definition.get("defaults", ()))),
            )
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
