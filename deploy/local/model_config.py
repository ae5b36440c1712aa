"""Which models to serve, and which of their versions: ModelServerConfig, read and checked."""

import re
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from deploy.local.errors import Code, ServingError, from_os, invalid
from deploy.local.flags import Flags

PLATFORM = "tensorflow"
_OLD_TYPES = {1: PLATFORM, 2: "other"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FILE_SCHEME = "file://"


def read(flags: Flags) -> ModelServerConfig:
    """The configuration that the flags point at, or one for the single model that they name.

    Raises:
        ServingError: no model at all, or a file that cannot be read.
    """
    if flags.model_config_file:
        return _read_file(Path(flags.model_config_file))
    if not flags.model_base_path:
        raise invalid(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=flags.model_name, base_path=flags.model_base_path, model_platform=PLATFORM
    )
    return config


def _read_file(path: Path) -> ModelServerConfig:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise from_os(error) from None
    if not text:
        # The real server maps the file into memory, which an empty one does not allow.
        raise invalid(f"{path}; Invalid argument")
    try:
        config = ModelServerConfig()
        text_format.Parse(text, config)
    except (text_format.ParseError, UnicodeDecodeError):
        raise invalid(f"Invalid protobuf file: '{path}'") from None
    if config.HasField("custom_model_config"):
        raise ServingError(
            Code.UNIMPLEMENTED, "ModelServer does not yet support custom model config."
        )
    return config


def check(models: Iterable[ModelConfig]) -> None:
    """Refuse a list of models that the real server refuses.

    Raises:
        ServingError: INVALID_ARGUMENT for the first fault.
    """
    models = list(models)
    names = set()
    for model in models:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
    for model in models:
        if not (model.base_path.startswith("/") or _SCHEME.match(model.base_path)):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI;"
                f" got base_path()={model.base_path}"
            )
    for model in models:
        _check_platform(model)
        if model.HasField("logging_config"):
            raise invalid("No request-logger-creator provided.")


def _check_platform(model: ModelConfig) -> None:
    old, new = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform"
    if bool(model.model_type) == bool(model.model_platform):
        what = f"both {old} and {new}" if model.model_type else f"neither {old} nor {new}"
        raise invalid(f"Illegal setting {what}, model name is {model.name}")
    platform = model.model_platform or _OLD_TYPES[model.model_type]
    if platform != PLATFORM:
        raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def base_path(model: ModelConfig) -> Path:
    """The folder of a model's version folders."""
    return Path(model.base_path.removeprefix(_FILE_SCHEME))


def wanted(model: ModelConfig, on_disk: Iterable[int]) -> set[int]:
    """The version numbers that a model's policy selects from those that exist."""
    policy = model.model_version_policy
    numbers = sorted(on_disk)
    match policy.WhichOneof("policy_choice"):
        case "all":
            return set(numbers)
        case "specific":
            return set(numbers) & set(policy.specific.versions)
        case _:
            return set(numbers[-(policy.latest.num_versions or 1) :])
