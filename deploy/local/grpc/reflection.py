"""gRPC reflection: which services there are, and what their messages look like."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

# The messages of both are the same.
_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def add(
    server: grpc.Server,
    services: Mapping[str, Mapping[str, Any]],
    generated: Iterable[FileDescriptor] = (),
) -> None:
    """Let a server tell about services, about itself, and about those of generated files.

    Args:
        server: gets the reflection services.
        services: service to method to type of request; the response is named after it.
        generated: files of services that come with their descriptors.
    """
    pool = descriptor_pool.DescriptorPool()
    generated = [reflection_pb2.DESCRIPTOR, *generated]
    names = [each.full_name for file in generated for each in file.services_by_name.values()]
    for file in generated:
        _add_file(pool, file)
    # tensorflow-serving-api has these services too, in a form that protobuf no longer loads.
    for service, methods in services.items():
        for request_type in methods.values():
            _add_file(pool, request_type.DESCRIPTOR.file)
        pool.Add(_describe(service, methods))
    rpc = grpc.stream_stream_rpc_method_handler(
        reflection.ReflectionServicer([*services, *names], pool).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    rpcs = {"ServerReflectionInfo": rpc}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, rpcs) for service in _SERVICES]
    )


def _add_file(pool: descriptor_pool.DescriptorPool, file: FileDescriptor) -> None:
    for needed in file.dependencies:
        _add_file(pool, needed)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    pool.Add(copy)


def _describe(service: str, methods: Mapping[str, Any]) -> descriptor_pb2.FileDescriptorProto:
    package, _, name = service.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{service.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    file.dependency.extend(sorted({each.DESCRIPTOR.file.name for each in methods.values()}))
    described = file.service.add(name=name)
    for method, request_type in methods.items():
        request = f".{request_type.DESCRIPTOR.full_name}"
        response = f"{request.removesuffix('Request')}Response"
        described.method.add(name=method, input_type=request, output_type=response)
    return file
