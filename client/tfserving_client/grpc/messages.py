"""The few TensorFlow Serving messages that a client needs, in a descriptor pool of their own.

Protobuf puts field numbers on the wire and no names, so the messages are declared here as plain
data under a private package. Nothing is generated (generated code pins a protobuf major) and
nothing enters the default pool, where TensorFlow's own `tensorflow.*` messages would collide.
Numbers: tensorflow/core/framework and tensorflow_serving/apis, TensorFlow Serving 2.21.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tfserving_client.wire"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}

# message → field → (number, type). Enums are int32: the same bytes. So are packed numbers and a
# string of bytes, which numpy reads a hundred times faster than a Python object for each number;
# and what is the same from answer to answer is bytes of a message, which `wire` reads once.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "repeated Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "bytes"),  # a TensorShape
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
    "PredictResponse": {
        "outputs": (1, "map Tensor"),
        "model_spec": (2, "bytes"),  # a ModelSpec
    },
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
    "Input": {"example_list": (1, "ExampleList")},
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


def _declare_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, declared: str
) -> None:
    repeated, _, kind = declared.rpartition(" ")
    field = message.field.add(
        name=name,
        number=number,
        label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
    )
    if repeated == "map":  # a map is a repeated message of key and value
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _declare_field(entry, "key", 1, "string")
        _declare_field(entry, "value", 2, kind)
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


def _declare() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfserving_client/wire.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, declared) in fields.items():
            _declare_field(message, field_name, number, declared)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_classes = _declare()

ModelSpec = _classes["ModelSpec"]
PredictRequest = _classes["PredictRequest"]
PredictResponse = _classes["PredictResponse"]
Tensor = _classes["Tensor"]
TensorShape = _classes["TensorShape"]
Example = _classes["Example"]
ExamplesRequest = _classes["ExamplesRequest"]
ClassificationResponse = _classes["ClassificationResponse"]
RegressionResponse = _classes["RegressionResponse"]
StatusRequest = _classes["StatusRequest"]
StatusResponse = _classes["StatusResponse"]
MetadataRequest = _classes["MetadataRequest"]
MetadataResponse = _classes["MetadataResponse"]
SignatureDefMap = _classes["SignatureDefMap"]
