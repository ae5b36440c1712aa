"""The gRPC port: a table of methods, each a request type and a handler."""

import asyncio
import concurrent.futures
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from deploy.local.errors import Code, ServingError
from deploy.local.handlers import Handlers

_MESSAGE_LIMIT = 1024
_CODES = {status.value[0]: status for status in grpc.StatusCode}

_log = logging.getLogger(__name__)


def methods(handlers: Handlers) -> dict[str, dict[str, tuple[Any, Callable[..., Any]]]]:
    """Service to method to request type and handler; what is not here is UNIMPLEMENTED."""
    return {
        "tensorflow.serving.PredictionService": {
            "Predict": (predict_pb2.PredictRequest, handlers.predict),
            "GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                handlers.metadata,
            ),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, handlers.status),
        },
    }


def make_server(
    handlers: Handlers, threads: int, channel_arguments: list[tuple[str, Any]]
) -> grpc.aio.Server:
    """A server without ports yet, answering `methods` in a pool of so many threads."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would share its callers without anybody noticing.
            ("grpc.so_reuseport", 0),
            *channel_arguments,
        ]
    )
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
    for service, table in methods(handlers).items():
        rpcs = {name: _rpc(pool, *row) for name, row in table.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, rpcs)])
    return server


def _rpc(
    pool: concurrent.futures.Executor, request_type: Any, handler: Callable[..., Any]
) -> grpc.RpcMethodHandler:
    """Messages are read and written in the pool too, so that large ones hold nobody up."""

    def work(body: bytes, deadline: float | None) -> bytes:
        try:
            request = request_type.FromString(body)
        except DecodeError:
            raise ServingError(Code.INTERNAL, "Unable to parse the request message.") from None
        # A deadline that has passed already must not look like none.
        timeout_ms = max(1, int((deadline - time.monotonic()) * 1000)) if deadline else 0
        answer: bytes = handler(request, timeout_ms).SerializeToString()
        return answer

    async def answer(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work, body, deadline)
        except ServingError as error:
            code, message = error.code, error.message
        except Exception as error:  # a fault of this server is one request's trouble
            _log.exception("request failed")
            code, message = Code.INTERNAL, f"{type(error).__name__}: {error}"
        await context.abort(_CODES[int(code)], _cut(message))
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(answer)


def _cut(message: str) -> str:
    text = message.encode("utf-8", "replace")
    if len(text) <= _MESSAGE_LIMIT:
        return message
    return text[:_MESSAGE_LIMIT].decode("utf-8", "ignore") + "...TRUNCATED"


def channel_arguments(text: str) -> list[tuple[str, Any]]:
    """`key=value,key=value` as gRPC takes it, numbers as numbers; parts without `=` are skipped."""
    pairs = (part.split("=", 1) for part in text.split(",") if "=" in part)
    # gRPC's numbers are C's int.
    return [(k, int(v) if re.fullmatch(r"-?[0-9]{1,9}", v) else v) for k, v in pairs]
