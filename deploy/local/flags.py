"""The command line of tensorflow_model_server 2.21: one table, which is a frozen dataclass.

The syntax is that program's: `--name=value` only, booleans also as `--name`, the last of
several wins, and an unknown argument is reported, but does not stop the server.
"""

import dataclasses
import math
import os
import re
from typing import Any, get_type_hints

_CPUS = len(os.sched_getaffinity(0))
_TYPE_NAMES = {bool: "bool", int: "int", float: "float", str: "string"}


class FlagError(ValueError):
    """A known flag has a value that its type does not allow."""


def _flag(
    default: Any,
    meaning: str,
    *,
    acts: bool = True,
    least: float = -math.inf,
    most: float = math.inf,
) -> Any:
    """One row of the table; `acts=False` marks a flag that is accepted without effect.

    Values below `least` or above `most` would end in an abort, or on another port.
    """
    metadata = {"meaning": meaning, "acts": acts, "limits": (least, most)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Flags:
    """All flags by name, with the real server's defaults."""

    # Serving
    port: int = _flag(8500, "gRPC port; 0: no TCP port", least=0, most=65535)
    grpc_socket_path: str = _flag("", "also listen for gRPC on this UNIX socket")
    rest_api_port: int = _flag(0, "REST port; 0: no REST", least=0, most=65535)
    rest_api_num_threads: int = _flag(4 * _CPUS, "threads that answer REST requests", least=1)
    rest_api_timeout_in_ms: int = _flag(30000, "longest model run for a REST request")
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers")
    grpc_channel_arguments: str = _flag("", "comma-separated key=value for the gRPC server")
    grpc_max_threads: int = _flag(4 * _CPUS, "threads that answer gRPC requests", least=1)
    enable_grpc_healthcheck_service: bool = _flag(False, "health service")
    enable_profiler: bool = _flag(True, "profiler service", acts=False)
    enable_serialization_as_tensor_content: bool = _flag(
        False, "answer gRPC with tensor_content instead of typed fields"
    )
    ssl_config_file: str = _flag("", "text SSLConfig: TLS for gRPC")
    use_alts_credentials: bool = _flag(False, "ALTS for gRPC: refused, not supported here")
    monitoring_config_file: str = _flag("", "text MonitoringConfig: Prometheus metrics")
    version: bool = _flag(False, "print versions and exit")
    # Models
    model_name: str = _flag("default", "name of the one model; not with model_config_file")
    model_base_path: str = _flag("", "absolute folder that holds the version folders")
    model_config_file: str = _flag("", "text ModelServerConfig with several models")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "seconds between readings of the config file; 0: read once"
    )
    file_system_poll_wait_seconds: int = _flag(
        1, "seconds between looks for versions; 0: look once; negative: never"
    )
    num_load_threads: int = _flag(
        0, "versions loaded at a time; 0: one, and nothing else meanwhile"
    )
    num_unload_threads: int = _flag(0, "threads that unload versions", acts=False)
    max_num_load_retries: int = _flag(5, "tries after the first to load a version")
    load_retry_interval_micros: int = _flag(60_000_000, "wait between tries")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "a new label may point at a version that is not loaded"
    )
    saved_model_tags: str = _flag("serve", "comma-separated tags of the graph to load")
    enable_model_warmup: bool = _flag(True, "run assets.extra/tf_serving_warmup_requests")
    num_request_iterations_for_warmup: int = _flag(0, "times each warm-up request runs")
    enable_signature_method_name_check: bool = _flag(False, "refuse unknown method names")
    flush_filesystem_caches: bool = _flag(True, "drop file caches after loading", acts=False)
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "save memory", acts=False)
    prefer_tflite_model: bool = _flag(False, "TensorFlow Lite", acts=False)
    num_tflite_pools: int = _flag(_CPUS, "TensorFlow Lite", acts=False)
    num_tflite_interpreters_per_pool: int = _flag(1, "TensorFlow Lite", acts=False)
    platform_config_file: str = _flag("", "platform configuration", acts=False)
    # Batching
    enable_batching: bool = _flag(False, "merge runs that come at the same time")
    batching_parameters_file: str = _flag("", "text BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(
        False, "read the parameters from batching_params.pbtxt in the version's folder"
    )
    # Compute
    tensorflow_session_parallelism: int = _flag(
        0, "intra- and inter-op threads; 0: automatic", least=0
    )
    tensorflow_intra_op_parallelism: int = _flag(0, "threads within one operation", least=0)
    tensorflow_inter_op_parallelism: int = _flag(0, "operations at a time", least=0)
    tensorflow_session_config_file: str = _flag(
        "", "text ConfigProto; its thread counts and GPU memory fraction are not used"
    )
    per_process_gpu_memory_fraction: float = _flag(0.0, "part of the GPU's memory to take")
    thread_pool_factory_config_file: str = _flag("", "custom thread pools", acts=False)
    xla_cpu_compilation_enabled: bool = _flag(False, "XLA", acts=False)
    xla_gpu_compilation_enabled: bool = _flag(False, "XLA", acts=False)
    mixed_precision: str = _flag("", "bfloat16 on CPU", acts=False)
    skip_initialize_tpu: bool = _flag(False, "TPU", acts=False)
    # Ours
    host: str = _flag("127.0.0.1", "address to listen on (not a flag of the real server)")
    drain_seconds: float = _flag(
        10.0, "time for running requests after SIGTERM (not a flag of the real server)"
    )


_TYPES = get_type_hints(Flags)
_LIMITS = {field.name: field.metadata["limits"] for field in dataclasses.fields(Flags)}
_ARGUMENT = re.compile(r"--(\w+)(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"\s*[-+.\da-z]+", re.ASCII | re.IGNORECASE)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _value(name: str, text: str) -> bool | int | float | str:
    kind = _TYPES[name]
    try:
        if kind in (int, float) and not _NUMBER.fullmatch(text):
            raise ValueError  # Python takes more: 1_000
        value: bool | int | float | str = _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise FlagError(f"Couldn't interpret value {text} for flag {name}.") from None
    least, most = _LIMITS[name]
    if not isinstance(value, str) and not least <= value <= most:
        raise FlagError(f"Value {text} for flag {name} lies outside {least:g}..{most:g}.")
    return value


def parse(arguments: list[str]) -> tuple[Flags, list[str]]:
    """Read a command line without the program's name.

    Returns:
        The flags, and the arguments that are none.

    Raises:
        FlagError: a known flag's value cannot be read.
    """
    values: dict[str, Any] = {}
    unknown = []
    for argument in arguments:
        match = _ARGUMENT.fullmatch(argument)
        name, text = match.groups() if match else ("", None)
        if text is None and _TYPES.get(name) is bool:
            text = "true"
        if name not in _TYPES or text is None:
            unknown.append(argument)
        else:
            values[name] = _value(name, text)
    return Flags(**values), unknown


def without_effect(flags: Flags) -> list[str]:
    """Names of flags that were set to something new and that this server only accepts."""
    return [
        field.name
        for field in dataclasses.fields(Flags)
        if not field.metadata["acts"] and getattr(flags, field.name) != field.default
    ]


def usage() -> str:
    """The table as text, one flag a line."""
    lines = ["usage: python -m deploy.local [--name=value ...]", "Flags:"]
    for field in dataclasses.fields(Flags):
        note = "" if field.metadata["acts"] else " (accepted, without effect here)"
        kind = _TYPE_NAMES[_TYPES[field.name]]
        lines.append(f"\t--{field.name}={field.default}\t{kind}\t{field.metadata['meaning']}{note}")
    return "\n".join(lines) + "\n"
