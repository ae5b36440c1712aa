"""Putting the parts together, from flags to open ports and back."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from aiohttp import web

from deploy.local import prometheus, text_files
from deploy.local.batching import servable as batching
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.flags import Flags
from deploy.local.grpc import server as grpc_server
from deploy.local.handlers import warmup
from deploy.local.handlers.rpcs import Handlers
from deploy.local.models import config as model_config
from deploy.local.models import servable
from deploy.local.models.manager import ModelManager
from deploy.local.models.servable import Servable
from deploy.local.rest.server import RestServer

_log = logging.getLogger(__name__)


def make_manager(flags: Flags) -> ModelManager:
    """A manager that loads and warms up models as the flags say."""
    wrap = batching.wrapper(flags)
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
        file=flags.tensorflow_session_config_file,
    )
    tags = flags.saved_model_tags.split(",")

    def load(name: str, version: int, path: Path) -> Servable:
        loaded: Servable = servable.load(name, version, path, tags, config)
        try:
            loaded = wrap(loaded, path)
            if flags.enable_model_warmup:
                warmup.run(
                    loaded,
                    path,
                    flags.num_request_iterations_for_warmup,
                    check_method=flags.enable_signature_method_name_check,
                )
        except ServingError:
            loaded.close()
            raise
        return loaded

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
    credentials, metrics_path = _credentials(flags), _metrics_path(flags)
    manager = make_manager(flags)
    config = model_config.read(flags)
    new = manager.apply(config)
    manager.start()
    stopping = asyncio.create_task(stop.wait())
    loading = asyncio.create_task(asyncio.to_thread(manager.wait, new))
    await asyncio.wait([stopping, loading], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        manager.stop()
    await loading
    if not stop.is_set():
        model_config.check_logging(config.model_config_list.config)
        async with _open_ports(flags, manager, credentials, metrics_path):
            following = asyncio.create_task(_follow_config(flags, manager))
            await stop.wait()
            following.cancel()
            _log.info("Stopping: waiting at most %g s for running requests", flags.drain_seconds)
    manager.stop()


def _credentials(flags: Flags) -> grpc.ServerCredentials | None:
    """Those of the TLS port, or nothing for a plain one."""
    if flags.use_alts_credentials:
        if flags.ssl_config_file:
            raise invalid(
                "Either use_alts_credentials must be false or ssl_config_file must be empty."
            )
        # Who asks for an encrypted port must not get a plain one.
        raise ServingError(Code.UNIMPLEMENTED, "deploy.local does not speak ALTS.")
    return grpc_server.credentials(Path(flags.ssl_config_file)) if flags.ssl_config_file else None


def _metrics_path(flags: Flags) -> str:
    """Where the metrics are on the REST port; empty: nowhere."""
    if not flags.monitoring_config_file:
        return ""
    path = Path(flags.monitoring_config_file)
    config = text_files.read(path, text_files.MonitoringConfig()).prometheus_config
    return (config.path or prometheus.PATH) if config.enable else ""


async def _follow_config(flags: Flags, manager: ModelManager) -> None:
    """Apply the configuration file again and again; one that is refused changes nothing."""
    seconds = flags.model_config_file_poll_wait_seconds
    while flags.model_config_file and seconds > 0:
        await asyncio.sleep(seconds)
        try:
            config = model_config.read(flags)
            # New models load while the file goes on being read.
            manager.apply(config)
            model_config.check_logging(config.model_config_list.config)
        except ServingError as error:
            _log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error)


@contextlib.asynccontextmanager
async def _open_ports(
    flags: Flags,
    manager: ModelManager,
    credentials: grpc.ServerCredentials | None,
    metrics_path: str,
) -> AsyncIterator[None]:
    """Serve on both ports within the block; leaving it drains both at the same time."""
    handlers = Handlers(
        manager,
        check_method=flags.enable_signature_method_name_check,
        as_content=flags.enable_serialization_as_tensor_content,
    )
    rpc = grpc_server.make_server(
        handlers,
        flags.grpc_max_threads,
        grpc_server.channel_arguments(flags.grpc_channel_arguments),
        health=flags.enable_grpc_healthcheck_service,
    )
    host = flags.host.strip("[]")  # an IPv6 address is given with or without
    where = f"[{host}]" if ":" in host else host
    addresses = [f"{where}:{flags.port}"] if flags.port else []
    if flags.grpc_socket_path:
        addresses.append(f"unix:{flags.grpc_socket_path}")
    try:
        for address in addresses:
            if credentials:
                rpc.add_secure_port(address, credentials)
            else:
                rpc.add_insecure_port(address)
    except RuntimeError:
        _log.error("Cannot listen for gRPC on %s:%d: is the port taken?", where, flags.port)
        raise invalid("Failed to BuildAndStart gRPC server") from None
    rpc.start()
    _log.info("Running gRPC ModelServer at %s:%d ...", where, flags.port)
    face = RestServer(
        handlers,
        threads=flags.rest_api_num_threads,
        timeout_ms=flags.rest_api_timeout_in_ms,
        cors=flags.rest_api_enable_cors_support,
        metrics_path=metrics_path,
    )
    runner = face.runner(flags.drain_seconds)
    await runner.setup()
    if flags.rest_api_port:
        await _open_rest(runner, flags, host, where)
    try:
        yield
    finally:
        stopped = rpc.stop(flags.drain_seconds)
        await asyncio.gather(asyncio.to_thread(stopped.wait), runner.cleanup())


async def _open_rest(runner: web.ServerRunner, flags: Flags, host: str, where: str) -> None:
    """Open the REST port; a failure is logged and leaves gRPC alone, as in the real server."""
    if flags.rest_api_port == flags.port:
        _log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port"
            " for HTTP/REST API. Skipped exporting HTTP/REST API."
        )
        return
    try:
        # `::` is every address of both kinds to gRPC; asyncio calls that None.
        await web.TCPSite(runner, None if host == "::" else host, flags.rest_api_port).start()
    except OSError as error:
        _log.error(
            "Failed to start HTTP Server at %s:%d: %s", where, flags.rest_api_port, error.strerror
        )
    else:
        _log.info("Exporting HTTP/REST API at:%s:%d ...", where, flags.rest_api_port)
