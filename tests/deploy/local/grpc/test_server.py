from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from deploy.local.grpc import server as grpc_server


def request(name: str = "line", **inputs: Any) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = name
    for alias, value in inputs.items():
        made.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return made


def refusal(call: Any, message: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=60)
    return caught.value.code().name, caught.value.details()


def test_predict(server: Any) -> None:
    answer = server.predict("line", x=np.array([1, 2], np.float32))
    assert list(answer.outputs["y"].float_val) == [4.5, 5.0]
    assert not answer.outputs["y"].tensor_content
    assert answer.model_spec.name == "line"
    assert answer.model_spec.version.value == 3
    assert answer.model_spec.signature_name == "serving_default"


def test_a_version_and_a_label(server: Any) -> None:
    asked = request(x=np.array([2], np.float32))
    asked.model_spec.version.value = 2
    assert server.prediction.Predict(asked).outputs["y"].float_val == [4.0]
    asked.model_spec.version_label = "stable"
    answer = server.prediction.Predict(asked)
    assert answer.outputs["y"].float_val == [3.0]
    assert answer.model_spec.WhichOneof("version_choice") == "version"


def test_refusals(server: Any) -> None:
    predict = server.prediction.Predict
    assert refusal(predict, predict_pb2.PredictRequest()) == (
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )
    assert refusal(predict, request("nosuch")) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nosuch)",
    )
    broken = request(x=np.array([1, 2], np.float32))
    broken.inputs["x"].tensor_content = b"123"
    assert refusal(predict, broken) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_long_messages_are_cut(server: Any) -> None:
    asked = request()
    asked.model_spec.signature_name = "é" * 1000
    code, details = refusal(server.prediction.Predict, asked)
    assert code == "FAILED_PRECONDITION"
    whole = f'Serving signature key "{asked.model_spec.signature_name}" not found.'
    # Within a character: what is left is no UTF-8, and grpcio shows it as Latin-1.
    assert details == whole.encode()[:1024].decode("latin-1") + "...TRUNCATED"


def test_large_messages_pass(server: Any) -> None:
    big = np.ones(2_000_000, np.float32)
    asked = request(x=big)
    channel = grpc.insecure_channel(
        f"127.0.0.1:{server.port}", [("grpc.max_receive_message_length", -1)]
    )
    with channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        assert len(call(asked, timeout=60).outputs["y"].float_val) == len(big)


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("/tensorflow.serving.PredictionService/Nothing", b"", "UNIMPLEMENTED"),
        ("/tensorflow.serving.SessionService/SessionRun", b"", "UNIMPLEMENTED"),
        ("/tensorflow.serving.PredictionService/Predict", b"\xff\xff", "INTERNAL"),
    ],
)
def test_what_is_no_request(server: Any, method: str, body: bytes, code: str) -> None:
    assert refusal(server.channel.unary_unary(method), body)[0] == code


def test_metadata(server: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "shapes"
    answer = server.prediction.GetModelMetadata(asked)
    assert answer.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {
        *("serving_default", "scaled", "text", "bytes", "scalar", "half")
    }
    assert signatures.signature_def["scaled"].inputs["a"].name == "a:0"


def test_metadata_refusals(server: Any) -> None:
    call = server.prediction.GetModelMetadata
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    assert refusal(call, asked)[1] == "Missing ModelSpec"
    asked.model_spec.name = "nosuch"
    assert refusal(call, asked)[1] == (
        "GetModelMetadataRequest must specify at least one metadata_field"
    )
    asked.metadata_field.append("x")
    assert refusal(call, asked)[1] == "Metadata field x is not supported"
    asked.metadata_field[:] = ["signature_def"]
    assert refusal(call, asked)[0] == "NOT_FOUND"


def test_status(server: Any) -> None:
    assert server.states("line") == dict.fromkeys((3, 2, 1), "AVAILABLE")
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "line"
    asked.model_spec.version_label = "nosuch"
    assert len(server.model.GetModelStatus(asked).model_version_status) == 3
    asked.model_spec.version.value = 2
    (entry,) = server.model.GetModelStatus(asked).model_version_status
    assert (entry.version, entry.status.error_code) == (2, 0)


def test_status_refusals(server: Any) -> None:
    call = server.model.GetModelStatus
    asked = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(call, asked) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    asked.model_spec.name = "line"
    asked.model_spec.version.value = 9
    assert refusal(call, asked) == ("NOT_FOUND", "Could not find version 9 of model line")
    asked.model_spec.name = "nosuch"
    asked.model_spec.ClearField("version")
    assert refusal(call, asked) == ("NOT_FOUND", "Could not find any versions of model nosuch")


def test_channel_arguments() -> None:
    assert grpc_server.channel_arguments("") == []
    assert grpc_server.channel_arguments("grpc.a=5,no-value,grpc.b=x=y") == [
        ("grpc.a", 5),
        ("grpc.b", "x=y"),
    ]
