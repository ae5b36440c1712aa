"""The three calls as TensorFlow Serving's gRPC messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from client import messages
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

# tensorflow.DataType
_DTYPES = {
    1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8",
    7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16",
    17: "DT_UINT16", 18: "DT_COMPLEX128", 19: "DT_HALF", 22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
_FLOAT, _UINT8, _STRING, _INT64 = 1, 4, 7, 9

# tensorflow.serving.ModelVersionStatus.State
_STATES = {
    10: State.START, 20: State.LOADING, 30: State.AVAILABLE, 40: State.UNLOADING, 50: State.END,
}  # fmt: skip


class GrpcWire:
    """Exchanges whose `method` is a full gRPC method path."""

    def predict(self, context: CallContext, batch: Batch) -> Exchange[Prediction]:
        """Run one signature on a batch."""
        request = messages.PredictRequest()
        _specify(request.model_spec, context)
        request.model_spec.signature_name = batch.signature
        _write_tensor(request.inputs[batch.alias], batch.values)
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/Predict",
            request,
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
            request,
            messages.StatusResponse,
            lambda response: tuple(
                VersionStatus(
                    entry.version,
                    _STATES.get(entry.state, State.UNKNOWN),
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
            request,
            messages.MetadataResponse,
            _read_metadata,
        )


def _exchange(
    context: CallContext,
    method: str,
    request: Any,
    response_type: Any,
    read: Callable[[Any], Answer],
) -> Exchange[Answer]:
    def decode(body: bytes) -> Answer:
        try:
            return read(response_type.FromString(body))
        except (DecodeError, KeyError, ValueError) as error:
            raise BadResponse(context, f"unreadable answer: {error}") from error

    return Exchange(context, method, request.SerializeToString(), decode)


def _specify(spec: Any, context: CallContext) -> None:
    spec.name = context.model
    if context.version is not None:
        spec.version.value = context.version
    if context.label is not None:
        spec.version_label = context.label


def _write_tensor(tensor: Any, values: NDArray[Any] | list[bytes]) -> None:
    if isinstance(values, list):
        tensor.dtype = _STRING
        tensor.tensor_shape.dim.add(size=len(values))
        tensor.string_val.extend(values)
        return
    tensor.dtype = _UINT8 if values.dtype == np.uint8 else _FLOAT
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    # Raw little-endian bytes: one copy, where the typed fields cost a Python object per pixel.
    tensor.tensor_content = values.tobytes()


def _read_tensor(tensor: Any) -> NDArray[Any]:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype not in {_FLOAT, _INT64}:
        raise ValueError(f"an output of dtype {_DTYPES.get(tensor.dtype, tensor.dtype)}")
    dtype, typed = (
        (np.float32, tensor.float_val) if tensor.dtype == _FLOAT else (np.int64, tensor.int64_val)
    )
    # The server answers in typed fields, or in raw bytes when started to do so.
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, np.dtype(dtype).newbyteorder("<")).reshape(
            shape
        )
    return np.fromiter(typed, dtype, math.prod(shape)).reshape(shape)


def _read_prediction(response: Any) -> Prediction:
    outputs = {alias: _read_tensor(tensor) for alias, tensor in response.outputs.items()}
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
