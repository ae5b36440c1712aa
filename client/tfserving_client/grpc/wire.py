"""The three calls as TensorFlow Serving's gRPC messages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from tfserving_client.call.exchange import FULL_QUEUE, Answer, Exchange, Inputs, Prediction
from tfserving_client.errors import (
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
from tfserving_client.grpc import messages
from tfserving_client.results import Metadata, Signature, State, TensorSpec, VersionStatus

_PREDICTION_SERVICE = "/tensorflow.serving.PredictionService"
_MODEL_SERVICE = "/tensorflow.serving.ModelService"

# Canonical status codes by name; grpc.StatusCode has the same names.
ERRORS: Mapping[str, type[CallError]] = {
    "CANCELLED": Unreachable,  # the server, or this client, is closing
    "UNKNOWN": ServerFailed,
    "INVALID_ARGUMENT": Rejected,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": ServerFailed,
    "PERMISSION_DENIED": AccessDenied,
    "RESOURCE_EXHAUSTED": Overloaded,
    "FAILED_PRECONDITION": Rejected,
    "ABORTED": ServerFailed,
    "OUT_OF_RANGE": Rejected,
    "UNIMPLEMENTED": BadResponse,
    "INTERNAL": ServerFailed,
    "UNAVAILABLE": Unreachable,
    "DATA_LOSS": ServerFailed,
    "UNAUTHENTICATED": AccessDenied,
}

# gRPC calls these UNAVAILABLE or UNKNOWN; waiting would not help.
_NOT_SERVING = (
    "Failed parsing HTTP/2",
    "Received http2 header with status",
    "Trying to connect an",
)

# tensorflow.DataType
_DTYPES = {
    0: "DT_INVALID", 1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16",
    6: "DT_INT8", 7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 11: "DT_QINT8",
    12: "DT_QUINT8", 13: "DT_QINT32", 14: "DT_BFLOAT16", 15: "DT_QINT16", 16: "DT_QUINT16",
    17: "DT_UINT16", 18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT",
    22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
FLOAT, UINT8, STRING, INT64 = 1, 4, 7, 9
_NUMBERS = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8}  # that are sent

# tensorflow.serving.ModelVersionStatus.State
STATES = {
    10: State.START, 20: State.LOADING, 30: State.AVAILABLE, 40: State.UNLOADING, 50: State.END,
}  # fmt: skip


class GrpcWire:
    """Exchanges whose `method` is a full gRPC method path."""

    def predict(self, context: CallContext, inputs: Inputs) -> Exchange[Prediction]:
        """Run the signature that the context names."""
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/Predict",
            _predict_request(context, inputs),
            messages.PredictResponse,
            _read_prediction,
        )

    def status(self, context: CallContext) -> Exchange[tuple[VersionStatus, ...]]:
        """State of every version the server has seen, newest first."""
        request = messages.StatusRequest()
        _specify(request.model_spec, context)
        return _exchange(
            context,
            f"{_MODEL_SERVICE}/GetModelStatus",
            request.SerializeToString(),
            messages.StatusResponse,
            lambda response: tuple(
                VersionStatus(
                    entry.version,
                    STATES.get(entry.state, State.UNKNOWN),
                    entry.status.error_message,
                )
                for entry in response.model_version_status
            ),
        )

    def metadata(self, context: CallContext) -> Exchange[Metadata]:
        """Signatures of a loaded version."""
        request = messages.MetadataRequest(metadata_field=["signature_def"])
        _specify(request.model_spec, context)
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/GetModelMetadata",
            request.SerializeToString(),
            messages.MetadataResponse,
            _read_metadata,
        )


def failure(
    context: CallContext, status: str, details: str, metadata: Mapping[str, Any]
) -> CallError:
    """The error that a gRPC status other than OK tells of.

    Args:
        context: what was asked of whom.
        status: the canonical code's name.
        details: the status's message.
        metadata: initial and trailing metadata.
    """
    kind = ERRORS.get(status, ServerFailed)
    if any(text in details for text in _NOT_SERVING):
        kind = BadResponse
    elif "larger than max" in details:  # a message's size; RESOURCE_EXHAUSTED to gRPC
        kind = Rejected
    elif FULL_QUEUE in details:
        kind = Overloaded
    elif details == "Stream removed":  # how gRPC at times calls a connection that broke: UNKNOWN
        kind = Unreachable
    return kind(context, f"{status} {details}", _retry_after(metadata))


def _retry_after(metadata: Mapping[str, Any]) -> float | None:
    for name, unit in (("grpc-retry-pushback-ms", 1000), ("retry-after", 1)):
        with contextlib.suppress(KeyError, ValueError):
            # Less than nothing means never: gRFC A6.
            return seconds / unit if (seconds := float(metadata[name])) >= 0 else math.inf
    return None


def _exchange(
    context: CallContext,
    method: str,
    body: bytes,
    response_type: Any,
    read: Callable[[Any], Answer],
) -> Exchange[Answer]:
    def decode(answer: bytes) -> Answer:
        try:
            return read(response_type.FromString(answer))
        except (DecodeError, KeyError, ValueError) as error:
            raise BadResponse(context, f"unreadable answer: {error}") from error

    return Exchange(context, method, body, decode)


def _specify(spec: Any, context: CallContext) -> None:
    spec.name = context.model
    if context.version is not None:
        spec.version.value = context.version
    if context.label is not None:
        spec.version_label = context.label


def _predict_request(context: CallContext, inputs: Inputs) -> bytes:
    """What protobuf would write, which copies an array three times; here it is once."""
    parts: list[Any] = [_before_inputs(context)]
    for alias, values in inputs.items():
        if isinstance(values, list):
            tensor = messages.Tensor(dtype=STRING, string_val=values)
            tensor.tensor_shape.dim.add(size=len(values))
            written = tensor.SerializeToString()
            parts += _before_tensor(alias, len(written)), written
        else:
            dtype = _NUMBERS[values.dtype]
            parts.append(_before_content(alias, dtype, values.shape, values.nbytes))
            parts.append(np.ascontiguousarray(values).data.cast("B"))
    return b"".join(parts)


@lru_cache(maxsize=64)
def _before_inputs(context: CallContext) -> bytes:
    request = messages.PredictRequest()
    _specify(request.model_spec, context)
    if context.signature is not None:
        request.model_spec.signature_name = context.signature
    written: bytes = request.SerializeToString()
    return written


def _before_tensor(alias: str, length: int) -> bytes:
    """An entry of the map PredictRequest.inputs, but for the `length` bytes of the tensor."""
    name = alias.encode()
    entry = _field(1, len(name)) + name + _field(2, length)
    return _field(2, len(entry) + length) + entry


@lru_cache(maxsize=64)
def _before_content(alias: str, dtype: int, shape: tuple[int, ...], length: int) -> bytes:
    """The same, but for the `length` bytes of the array alone, which are the tensor's end."""
    tensor = messages.Tensor(dtype=dtype)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    written: bytes = tensor.SerializeToString()
    written += _field(4, length)  # TensorProto.tensor_content
    return _before_tensor(alias, len(written) + length) + written


def _field(number: int, length: int) -> bytes:
    """What stands before the bytes of a field: its tag, and their number as a varint."""
    head = bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def _read_tensor(tensor: Any) -> NDArray[Any]:
    """The server answers in typed fields, or in raw bytes when started to do so."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == FLOAT:
        return np.frombuffer(tensor.tensor_content or tensor.float_val, "<f4").reshape(shape)
    if tensor.dtype != INT64:
        raise ValueError(f"an output of dtype {_DTYPES.get(tensor.dtype, tensor.dtype)}")
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, "<i8").reshape(shape)
    # Varints: a number below 128 is one byte. Digits are; anything else has too many bytes.
    return np.frombuffer(tensor.int64_val, np.uint8).reshape(shape)


def _read_prediction(response: Any) -> Prediction:
    tensors = response.outputs
    outputs = {alias: _read_tensor(tensors[alias]) for alias in tensors}
    return Prediction(outputs, response.model_spec.version.value)


def _read_metadata(response: Any) -> Metadata:
    signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    return Metadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: Signature(_read_specs(definition.inputs), _read_specs(definition.outputs))
            for name, definition in signatures.signature_def.items()
        },
    )


def _read_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _read_spec(info) for alias, info in infos.items()}


def _read_spec(info: Any) -> TensorSpec:
    dtype = _DTYPES.get(info.dtype, f"DT_{info.dtype}")
    if info.tensor_shape.unknown_rank:
        return TensorSpec(dtype, None)
    return TensorSpec(
        dtype, tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    )
