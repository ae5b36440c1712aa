"""The private messages, held against the official ones."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from tfserving_client.grpc import messages


def test_nothing_enters_the_default_pool() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("tfserving_client/wire.proto")


def test_no_generated_code_and_no_tensorflow_is_imported() -> None:
    script = (
        "import sys, tfserving_client.grpc.transport, tfserving_client.rest.wire\n"
        "bad = [m for m in sys.modules if m.startswith('tensorflow') or m.endswith('_pb2')]\n"
        "allowed = {'google.protobuf.descriptor_pb2'}\n"
        "sys.exit(repr(set(bad) - allowed) if set(bad) - allowed else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("ours", "module", "name"),
    [
        ("PredictRequest", "predict_pb2", "PredictRequest"),
        ("PredictResponse", "predict_pb2", "PredictResponse"),
        ("StatusRequest", "get_model_status_pb2", "GetModelStatusRequest"),
        ("StatusResponse", "get_model_status_pb2", "GetModelStatusResponse"),
        ("MetadataRequest", "get_model_metadata_pb2", "GetModelMetadataRequest"),
        ("MetadataResponse", "get_model_metadata_pb2", "GetModelMetadataResponse"),
        ("SignatureDefMap", "get_model_metadata_pb2", "SignatureDefMap"),
    ],
)
def test_fields_have_the_official_names_numbers_and_types(
    ours: str, module: str, name: str
) -> None:
    official = getattr(__import__(f"tensorflow_serving.apis.{module}", fromlist=[name]), name)
    _assert_same_fields(getattr(messages, ours).DESCRIPTOR, official.DESCRIPTOR, set())


def _assert_same_fields(ours: Any, official: Any, seen: set[str]) -> None:
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        twin = official.fields_by_name[field.name]
        assert field.number == twin.number
        if (field.type, twin.is_packed) == (field.TYPE_BYTES, True):  # the same on the wire
            continue
        if field.full_name.endswith(".Tensor.tensor_shape"):  # kept as its bytes
            _assert_same_fields(messages.TensorShape.DESCRIPTOR, twin.message_type, seen)
            continue
        enum_as_int32 = (field.type, twin.type) == (field.TYPE_INT32, field.TYPE_ENUM)
        assert field.type == twin.type or enum_as_int32, field.full_name
        assert field.is_repeated == twin.is_repeated
        if field.message_type:
            _assert_same_fields(field.message_type, twin.message_type, seen)
