"""The calls as TensorFlow Serving's gRPC messages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from tfserving_client.call.exchange import FULL_QUEUE, Answer, Exchange, Inputs
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
from tfserving_client.grpc.messages import before
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
from tfserving_client.tensors.dtypes import DType
from tfserving_client.tensors.features import Features

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

STRING = dtypes.STRING.number
_LONGEST_SHAPE = 4_096  # bytes; numpy takes 64 dimensions at most
_MOST_FILLED = 2**31  # bytes; a server may claim any shape

# tensorflow.serving.ModelVersionStatus.State
STATES = {
    10: State.START, 20: State.LOADING, 30: State.AVAILABLE, 40: State.UNLOADING, 50: State.END,
}  # fmt: skip


class GrpcWire:
    """Exchanges whose `method` is a full gRPC method path."""

    def predict(
        self,
        context: CallContext,
        inputs: Inputs,
        outputs: Sequence[str] = (),
        declared: Signature | None = None,  # noqa: ARG002 (tensors tell their dtypes)
    ) -> Exchange[Prediction]:
        """Run the signature that the context names."""
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/Predict",
            _predict_request(context, inputs, tuple(outputs)),
            messages.PredictResponse,
            _read_prediction,
        )

    def classify(
        self, context: CallContext, examples: Sequence[Features]
    ) -> Exchange[list[list[Label]]]:
        """The labels of each example, by a signature for it."""
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/Classify",
            _examples_request(context, examples),
            messages.ClassificationResponse,
            lambda response: [
                [Label(found.label, found.score) for found in row.classes]
                for row in response.result.classifications
            ],
        )

    def regress(
        self, context: CallContext, examples: Sequence[Features]
    ) -> Exchange[NDArray[np.float32]]:
        """The number of each example, by a signature for it."""
        return _exchange(
            context,
            f"{_PREDICTION_SERVICE}/Regress",
            _examples_request(context, examples),
            messages.RegressionResponse,
            lambda response: np.array(
                [row.value for row in response.result.regressions], np.float32
            ),
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


def _predict_request(context: CallContext, inputs: Inputs, outputs: tuple[str, ...]) -> bytes:
    """What protobuf would write, which copies an array three times; here it is once."""
    parts: list[Any] = [_before_inputs(context, outputs)]
    for alias, values in inputs.items():
        if isinstance(values, list) or values.dtype == object:
            written = write_tensor(values).SerializeToString()
            parts += _before_tensor(alias, len(written)), written
        else:
            dtype = dtypes.BY_NUMPY[values.dtype].number
            parts.append(_before_content(alias, dtype, values.shape, values.nbytes))
            parts.append(_content(values))
    return b"".join(parts)


def write_tensor(values: NDArray[Any] | list[bytes]) -> Any:
    """The message for an array of one of `tensors.dtypes`, or for a row of strings."""
    if isinstance(values, list):
        shape = write_shape((len(values),))
        return messages.Tensor(dtype=STRING, tensor_shape=shape, string_val=values)
    shape = write_shape(values.shape)
    if values.dtype == object:
        strings = values.ravel().tolist()
        return messages.Tensor(dtype=STRING, tensor_shape=shape, string_val=strings)
    number = dtypes.BY_NUMPY[values.dtype].number
    content = bytes(_content(values))
    return messages.Tensor(dtype=number, tensor_shape=shape, tensor_content=content)


@lru_cache(maxsize=64)
def write_shape(shape: tuple[int, ...]) -> bytes:
    """The bytes of a TensorShape."""
    message = messages.TensorShape()
    for size in shape:
        message.dim.add(size=size)
    written: bytes = message.SerializeToString()
    return written


@lru_cache(maxsize=64)
def _read_shape(written: bytes) -> tuple[int, ...]:
    if len(written) > _LONGEST_SHAPE:
        raise ValueError(f"a shape of {len(written)} bytes")
    return tuple(dim.size for dim in messages.TensorShape.FromString(written).dim)


def _content(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


@lru_cache(maxsize=64)
def _before_inputs(context: CallContext, outputs: tuple[str, ...]) -> bytes:
    request = messages.PredictRequest(output_filter=outputs)
    _specify(request.model_spec, context)
    if context.signature is not None:
        request.model_spec.signature_name = context.signature
    written: bytes = request.SerializeToString()
    return written


def _examples_request(context: CallContext, examples: Sequence[Features]) -> bytes:
    request = messages.ExamplesRequest()
    _specify(request.model_spec, context)
    request.model_spec.signature_name = context.signature or ""
    request.input.example_list.examples.extend(map(write_example, examples))
    written: bytes = request.SerializeToString()
    return written


def write_example(features: Features) -> Any:
    """The message for a tf.Example."""
    example = messages.Example()
    written = example.features.feature
    for name, values in features.items():
        kind = type(values[0]) if values else None
        if kind is bytes:
            written[name].bytes_list.value.extend(values)
        elif kind is int:
            written[name].int64_list.value.extend(values)
        elif kind is float:
            written[name].float_list.value = np.array(values, "<f4").tobytes()
        else:
            written[name].SetInParent()
    return example


def _before_tensor(alias: str, length: int) -> bytes:
    """An entry of the map PredictRequest.inputs, but for the `length` bytes of the tensor."""
    name = alias.encode()
    entry = before(1, len(name)) + name + before(2, length)
    return before(2, len(entry) + length) + entry


@lru_cache(maxsize=64)
def _before_content(alias: str, dtype: int, shape: tuple[int, ...], length: int) -> bytes:
    """The same, but for the `length` bytes of the array alone, which are the tensor's end."""
    tensor = messages.Tensor(dtype=dtype, tensor_shape=write_shape(shape))
    written: bytes = tensor.SerializeToString()
    written += before(4, length)  # TensorProto.tensor_content
    return _before_tensor(alias, len(written) + length) + written


def read_tensor(tensor: Any) -> NDArray[Any]:
    """The server answers in typed fields, or in raw bytes when started to do so.

    A typed field may be short: its last value then stands for all that are missing.
    """
    shape = _read_shape(tensor.tensor_shape)
    row = dtypes.BY_NUMBER.get(tensor.dtype)
    if row is None:
        raise ValueError(f"an output of dtype {dtypes.name(tensor.dtype)}")
    size, content = math.prod(shape), tensor.tensor_content
    if row is dtypes.STRING:
        values = _read_strings(content, size) if content else [*tensor.string_val]
        array = np.array(values, object)
    elif content or row.field in _FIXED:
        array = np.frombuffer(content or getattr(tensor, row.field), row.numpy)
    else:
        array = _read_varints(getattr(tensor, row.field), row)
    if row is dtypes.BFLOAT16:
        array = dtypes.from_bfloat16(array)
    if len(array) != size:
        array = _filled(array, shape, size)
    return array.reshape(shape)


def _read_varints(packed: bytes, row: DType) -> NDArray[Any]:
    numbers = _varints(packed)
    if row.field == "half_val":  # their bits
        return numbers.astype("<u2").view(row.numpy)
    if row.numpy.names:
        return numbers.astype(row.plain).view(row.numpy)
    return numbers.astype(row.numpy)


# Fields whose packed values are an array's own bytes; the others hold varints.
_FIXED = {"float_val", "double_val", "scomplex_val", "dcomplex_val", "float8_val"}


def _varints(packed: bytes) -> NDArray[Any]:
    """Numbers of seven bits a byte, the lowest first; all but the last byte have the eighth set."""
    data = np.frombuffer(packed, np.uint8)
    if packed.isascii():  # all below 128, a byte each
        return data
    ends = np.flatnonzero(data < 0x80)
    if ends.size == 0 or ends[-1] != len(data) - 1:
        raise ValueError("a number that is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise ValueError("a number of more than 64 bits")
    places = np.arange(len(data)) - np.repeat(starts, lengths)
    parts = (data & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.asarray(np.add.reduceat(parts, starts))


def _read_strings(content: bytes, count: int) -> list[bytes]:
    """All lengths as varints, then all strings without gaps."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) < 0x80)
    if len(ends) < count:
        raise ValueError("strings that are cut off")
    start = int(ends[count - 1]) + 1 if count else 0
    found = []
    for length in _varints(content[:start]).tolist():
        found.append(content[start : start + length])
        start += length
    if start != len(content):
        raise ValueError("strings that do not fill their tensor")
    return found


def _filled(array: NDArray[Any], shape: tuple[int, ...], size: int) -> NDArray[Any]:
    if not 0 < len(array) < size:
        raise ValueError(f"{len(array)} values for shape {shape}")
    if len(array) == 1:
        return np.broadcast_to(array.reshape((1,) * len(shape)), shape)  # takes no memory
    if size * array.itemsize > _MOST_FILLED:
        raise ValueError(f"{len(array)} values for shape {shape}")
    return np.concatenate([array, np.repeat(array[-1:], size - len(array))])


def _read_prediction(response: Any) -> Prediction:
    tensors = response.outputs  # whose items() is slow
    outputs = {alias: read_tensor(tensors[alias]) for alias in tensors}
    return Prediction(outputs, response.model_spec.version.value)


def _read_metadata(response: Any) -> Metadata:
    signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    return Metadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {
            name: Signature(
                _read_specs(definition.inputs),
                _read_specs(definition.outputs),
                tuple(sorted(definition.defaults)),
            )
            for name, definition in signatures.signature_def.items()
        },
    )


def _read_specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _read_spec(info) for alias, info in infos.items()}


def _read_spec(info: Any) -> TensorSpec:
    dtype = dtypes.name(info.dtype)
    if info.tensor_shape.unknown_rank:
        return TensorSpec(dtype, None)
    return TensorSpec(
        dtype, tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    )
