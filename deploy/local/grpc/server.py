"""The gRPC port: a table of methods, each a request type and a handler."""

import concurrent.futures
import contextlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health as health_check
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from deploy.local import metrics, text_files
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.grpc import reflection
from deploy.local.handlers.rpcs import Handlers

_MESSAGE_LIMIT = 1024
_ENDLESS = 1e9  # seconds; gRPC reports no deadline as a larger number
_COUNTED = ("Predict", "Classify", "Regress")
_UNCOUNTED = contextlib.nullcontext()
_CODES = {status.value[0]: status for status in grpc.StatusCode}

_log = logging.getLogger(__name__)


def methods(handlers: Handlers) -> dict[str, dict[str, tuple[Any, Callable[..., Any]]]]:
    """Service to method to request type and handler; what is not here is UNIMPLEMENTED."""
    return {
        "tensorflow.serving.PredictionService": {
            "Predict": (predict_pb2.PredictRequest, handlers.predict),
            "Classify": (classification_pb2.ClassificationRequest, handlers.classify),
            "Regress": (regression_pb2.RegressionRequest, handlers.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, handlers.multi_inference),
            "GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                handlers.metadata,
            ),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, handlers.status),
            "HandleReloadConfigRequest": (
                model_management_pb2.ReloadConfigRequest,
                handlers.reload,
            ),
        },
    }


def make_server(
    handlers: Handlers,
    threads: int,
    channel_arguments: list[tuple[str, Any]],
    *,
    health: bool = False,
) -> grpc.Server:
    """A server without ports yet, answering `methods` in a pool of so many threads."""
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
    server = grpc.server(
        pool,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would silently share its callers.
            ("grpc.so_reuseport", 0),
            *channel_arguments,
        ],
    )
    services = methods(handlers)
    for service, table in services.items():
        rpcs = {name: _rpc(name, *row) for name, row in table.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, rpcs)])
    if health:
        _add_health(server)
    types = {
        service: {name: row[0] for name, row in table.items()}
        for service, table in services.items()
    }
    reflection.add(server, types, [health_pb2.DESCRIPTOR] if health else [])
    return server


def _add_health(server: grpc.Server) -> None:
    """The health service, which always says SERVING, as the real server's does."""
    servicer = health_check.HealthServicer()
    for name in ("", "ModelService", "PredictionService"):
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def credentials(path: Path) -> grpc.ServerCredentials:
    """What an SSLConfig file says.

    Raises:
        ServingError: the file cannot be read, or wants client certificates without a CA.
    """
    config = text_files.read(path, text_files.SSLConfig())
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{path}: client_verify needs custom_ca")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def _rpc(name: str, request_type: Any, handler: Callable[..., Any]) -> grpc.RpcMethodHandler:
    """Messages are parsed in the thread that answers, so large ones block no other call."""
    counted = name in _COUNTED

    def work(body: bytes, timeout_ms: int) -> bytes:
        try:
            request = request_type.FromString(body)
        except DecodeError:
            raise ServingError(Code.INTERNAL, "Unable to parse the request message.") from None
        with metrics.request(request.model_spec.name, name, "GRPC") if counted else _UNCOUNTED:
            answer: bytes = handler(request, timeout_ms).SerializeToString()
        return answer

    def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return work(body, _timeout_ms(context))
        except ServingError as error:
            code, message = error.code, error.message
        except Exception as error:  # a bug of this server fails only one request
            _log.exception("request failed")
            code, message = Code.INTERNAL, f"{type(error).__name__}: {error}"
        context.abort(_CODES[int(code)], _cut(message))
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(answer)


def _timeout_ms(context: grpc.ServicerContext) -> int:
    """What is left of the call's deadline; 0: it has none."""
    remaining = context.time_remaining()
    if remaining is None or remaining > _ENDLESS:
        return 0
    # A deadline that has passed already must not look like none.
    return max(1, int(remaining * 1000))


def _cut(message: str) -> bytes:
    """At most so many bytes, cut anywhere."""
    text = message.encode("utf-8", "surrogateescape")
    return text if len(text) <= _MESSAGE_LIMIT else text[:_MESSAGE_LIMIT] + b"...TRUNCATED"


def channel_arguments(text: str) -> list[tuple[str, Any]]:
    """`key=value,key=value` as gRPC takes it, numbers as numbers; parts without `=` are skipped."""
    pairs = (part.split("=", 1) for part in text.split(",") if "=" in part)
    # gRPC's numbers are C's int.
    return [(k, int(v) if re.fullmatch(r"-?[0-9]{1,9}", v) else v) for k, v in pairs]
