"""The few TensorFlow Serving messages that a client needs, in a descriptor pool of their own.

Protobuf puts field numbers on the wire and no names, so the messages are declared here as plain
data under a private package. Nothing is generated (generated code pins a protobuf major) and
nothing enters the default pool, where TensorFlow's own `tensorflow.*` messages would collide.
Numbers: tensorflow/core/framework and tensorflow_serving/apis, TensorFlow Serving 2.21.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool, message_factory

_PACKAGE = "tfserving_client.wire"

# google/protobuf/descriptor.proto: FieldDescriptorProto.Type and Label
_SCALARS = {"bool": 8, "bytes": 12, "float": 2, "int32": 5, "int64": 3, "string": 9}
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3

# message → field → (number, type). Enums are int32: the same bytes. So are packed numbers and a
# string of bytes, which numpy reads a hundred times faster than a Python object for each number. A
# tensor's shape is the bytes of a TensorShape: there are few, and each is read and written once.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "repeated Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "bytes"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "bytes"),
        "double_val": (6, "bytes"),
        "int_val": (7, "bytes"),
        "string_val": (8, "repeated bytes"),
        "scomplex_val": (9, "bytes"),
        "int64_val": (10, "bytes"),
        "bool_val": (11, "bytes"),
        "dcomplex_val": (12, "bytes"),
        "half_val": (13, "bytes"),
        "uint32_val": (16, "bytes"),
        "uint64_val": (17, "bytes"),
        "float8_val": (18, "bytes"),
    },
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "map Tensor"),
        "output_filter": (3, "repeated string"),
    },
    "PredictResponse": {"outputs": (1, "map Tensor"), "model_spec": (2, "ModelSpec")},
    "BytesList": {"value": (1, "repeated bytes")},
    "FloatList": {"value": (1, "bytes")},
    "Int64List": {"value": (1, "repeated int64")},
    "Feature": {
        "bytes_list": (1, "BytesList"),
        "float_list": (2, "FloatList"),
        "int64_list": (3, "Int64List"),
    },
    "Features": {"feature": (1, "map Feature")},
    "Example": {"features": (1, "Features")},
    "ExampleList": {"examples": (1, "repeated Example")},
    "ExampleListWithContext": {"examples": (1, "repeated Example"), "context": (2, "Example")},
    "Input": {
        "example_list": (1, "ExampleList"),
        "example_list_with_context": (2, "ExampleListWithContext"),
    },
    "ExamplesRequest": {"model_spec": (1, "ModelSpec"), "input": (2, "Input")},
    "Class": {"label": (1, "string"), "score": (2, "float")},
    "Classifications": {"classes": (1, "repeated Class")},
    "ClassificationResult": {"classifications": (1, "repeated Classifications")},
    "ClassificationResponse": {"result": (1, "ClassificationResult")},
    "Regression": {"value": (1, "float")},
    "RegressionResult": {"regressions": (1, "repeated Regression")},
    "RegressionResponse": {"result": (1, "RegressionResult")},
    "StatusRequest": {"model_spec": (1, "ModelSpec")},
    "Status": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "VersionStatus": {"version": (1, "int64"), "state": (2, "int32"), "status": (3, "Status")},
    "StatusResponse": {"model_version_status": (1, "repeated VersionStatus")},
    "MetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "repeated string")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "MetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map Any")},
    "TensorInfo": {
        "name": (1, "string"),
        "dtype": (2, "int32"),
        "tensor_shape": (3, "TensorShape"),
    },
    "SignatureDef": {
        "inputs": (1, "map TensorInfo"),
        "outputs": (2, "map TensorInfo"),
        "defaults": (4, "map Tensor"),
    },
    "SignatureDefMap": {"signature_def": (1, "map SignatureDef")},
}


def before(field: int, length: int) -> bytes:
    """What stands before the bytes of a field: its tag, and their number as a varint."""
    head = bytearray([field << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


# Messages of descriptor.proto, written by hand: importing those of protobuf takes longer than the
# first call.


def _text(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return before(field, len(data)) + data


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def _message(name: str, fields: dict[str, tuple[int, str]]) -> bytes:
    """A DescriptorProto."""
    written = _text(1, name)
    for field, (number, declared) in fields.items():
        repeated, _, kind = declared.rpartition(" ")
        if repeated == "map":  # a map is a repeated message of key and value
            entry = f"{field.title().replace('_', '')}Entry"
            members = {"key": (1, "string"), "value": (2, kind)}
            is_map = _text(7, _number(7, True))  # MessageOptions.map_entry
            written += _text(3, _message(entry, members) + is_map)
            kind = f"{name}.{entry}"
        written += _text(
            2,
            _text(1, field)
            + _number(3, number)
            + _number(4, _REPEATED if repeated else _OPTIONAL)
            + _number(5, _SCALARS.get(kind, _MESSAGE))
            + (b"" if kind in _SCALARS else _text(6, f".{_PACKAGE}.{kind}")),
        )
    return written


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(
    _text(1, "tfserving_client/wire.proto")
    + _text(2, _PACKAGE)
    + b"".join(_text(4, _message(name, fields)) for name, fields in _MESSAGES.items())
    + _text(12, "proto3")
)


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


PredictRequest = _class("PredictRequest")
PredictResponse = _class("PredictResponse")
Tensor = _class("Tensor")
TensorShape = _class("TensorShape")
Example = _class("Example")
ExamplesRequest = _class("ExamplesRequest")
ClassificationResponse = _class("ClassificationResponse")
RegressionResponse = _class("RegressionResponse")
StatusRequest = _class("StatusRequest")
StatusResponse = _class("StatusResponse")
MetadataRequest = _class("MetadataRequest")
MetadataResponse = _class("MetadataResponse")
SignatureDefMap = _class("SignatureDefMap")
