from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_database, descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

SERVICES = {"tensorflow.serving.ModelService", "tensorflow.serving.PredictionService"}


def ask(server: Any, version: str, **request: str) -> reflection_pb2.ServerReflectionResponse:
    call = server.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = call(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=60)
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_services_are_listed(server: Any, version: str) -> None:
    answer = ask(server, version, list_services="")
    names = {service.name for service in answer.list_services_response.service}
    assert names == {*SERVICES, "grpc.reflection.v1alpha.ServerReflection"}


def test_a_service_and_its_messages_can_be_looked_up(server: Any) -> None:
    symbol = "tensorflow.serving.PredictionService"
    answer = ask(server, "v1alpha", file_containing_symbol=symbol)
    files = descriptor_database.DescriptorDatabase()
    for data in answer.file_descriptor_response.file_descriptor_proto:
        files.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    pool = descriptor_pool.DescriptorPool(files)
    service = pool.FindServiceByName(symbol)
    assert {each.name for each in service.methods} == {
        "Predict",
        "Classify",
        "Regress",
        "MultiInference",
        "GetModelMetadata",
    }
    predict = service.methods_by_name["Predict"]
    assert predict.output_type.fields_by_name["outputs"].number == 1
    assert "model_spec" in predict.input_type.fields_by_name


def test_an_unknown_symbol(server: Any) -> None:
    answer = ask(server, "v1", file_containing_symbol="tensorflow.serving.SessionService")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
