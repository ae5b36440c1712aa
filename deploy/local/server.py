"""Putting the parts together, from flags to open ports and back."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from tensorflow_serving.apis import predict_pb2

from deploy.local import grpc_face, model_config, servable, tensors, warmup
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.flags import Flags
from deploy.local.handlers import Handlers, predict
from deploy.local.manager import ModelManager
from deploy.local.rest_face import RestFace
from deploy.local.servable import Servable

_log = logging.getLogger(__name__)


def make_manager(flags: Flags) -> ModelManager:
    """A manager that loads and warms up models as the flags say."""
    if flags.tensorflow_session_parallelism > 0 and (
        flags.tensorflow_intra_op_parallelism > 0 and flags.tensorflow_inter_op_parallelism > 0
    ):
        raise invalid(
            "Either configure server_options.tensorflow_session_parallelism or"
            " (server_options.tensorflow_intra_op_parallelism,"
            " server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all."
        )
    config = servable.session_config(
        intra_op=flags.tensorflow_intra_op_parallelism,
        inter_op=flags.tensorflow_inter_op_parallelism,
        both=flags.tensorflow_session_parallelism,
        gpu_fraction=flags.per_process_gpu_memory_fraction,
    )
    tags = flags.saved_model_tags.split(",")

    def load(name: str, version: int, path: Path) -> Servable:
        loaded = servable.load(name, version, path, tags, config)
        if flags.enable_model_warmup:
            try:
                warmup.run(loaded, path, answer, flags.num_request_iterations_for_warmup)
            except ServingError:
                loaded.close()
                raise
        return loaded

    def answer(loaded: Servable, request: predict_pb2.PredictRequest) -> None:
        signature = request.model_spec.signature_name
        predict(loaded, signature, request.inputs, tensors.decode, request.output_filter)

    return ModelManager(
        load,
        poll_seconds=flags.file_system_poll_wait_seconds,
        retries=flags.max_num_load_retries,
        retry_seconds=flags.load_retry_interval_micros / 1e6,
        load_threads=flags.num_load_threads,
        free_labels=flags.allow_version_labels_for_unavailable_models,
    )


async def serve(flags: Flags) -> None:
    """Load, open the ports, and serve until SIGTERM or SIGINT; then drain.

    Raises:
        ServingError: the server cannot start.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not (flags.port or flags.grpc_socket_path):
        raise invalid("server_options.grpc_port and server_options.grpc_socket_path are not set.")
    if flags.ssl_config_file or flags.use_alts_credentials:
        # Who asks for an encrypted port must not get a plain one.
        raise ServingError(Code.UNIMPLEMENTED, "deploy.local speaks neither TLS nor ALTS.")
    manager = make_manager(flags)
    manager.apply(model_config.read(flags).model_config_list.config)
    manager.start()
    stopping = asyncio.create_task(stop.wait())
    loading = asyncio.create_task(asyncio.to_thread(manager.wait_for_first_load))
    await asyncio.wait([stopping, loading], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        manager.stop()
    await loading
    if not stop.is_set():
        async with _open_ports(flags, manager):
            await stop.wait()
            _log.info("Stopping: waiting at most %g s for running requests", flags.drain_seconds)
    manager.stop()


@contextlib.asynccontextmanager
async def _open_ports(flags: Flags, manager: ModelManager) -> AsyncIterator[None]:
    """Serve on both ports within the block; leaving it drains both at the same time."""
    handlers = Handlers(
        manager,
        check_method=flags.enable_signature_method_name_check,
        as_content=flags.enable_serialization_as_tensor_content,
    )
    rpc = grpc_face.make_server(
        handlers,
        flags.grpc_max_threads,
        grpc_face.channel_arguments(flags.grpc_channel_arguments),
    )
    try:
        if flags.port:
            rpc.add_insecure_port(f"{flags.host}:{flags.port}")
        if flags.grpc_socket_path:
            rpc.add_insecure_port(f"unix:{flags.grpc_socket_path}")
    except RuntimeError:
        _log.error("Cannot listen for gRPC on %s:%d: is the port taken?", flags.host, flags.port)
        raise invalid("Failed to BuildAndStart gRPC server") from None
    await rpc.start()
    _log.info("Running gRPC ModelServer at %s:%d ...", flags.host, flags.port)
    face = RestFace(
        handlers,
        threads=flags.rest_api_num_threads,
        timeout_ms=flags.rest_api_timeout_in_ms,
        cors=flags.rest_api_enable_cors_support,
    )
    runner = face.runner(flags.drain_seconds)
    await runner.setup()
    if flags.rest_api_port:
        await _open_rest(runner, flags)
    try:
        yield
    finally:
        await asyncio.gather(rpc.stop(flags.drain_seconds), runner.cleanup())


async def _open_rest(runner: web.ServerRunner, flags: Flags) -> None:
    """Open the REST port; a failure is logged and leaves gRPC alone, as in the real server."""
    if flags.rest_api_port == flags.port:
        _log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port"
            " for HTTP/REST API. Skipped exporting HTTP/REST API."
        )
        return
    where = f"{flags.host}:{flags.rest_api_port}"
    try:
        await web.TCPSite(runner, flags.host, flags.rest_api_port).start()
    except OSError as error:
        _log.error("Failed to start HTTP Server at %s: %s", where, error.strerror)
    else:
        _log.info("Exporting HTTP/REST API at:%s ...", where)
