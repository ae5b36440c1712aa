"""Which models to serve, and which of their versions: ModelServerConfig, read and checked."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from deploy.local import text_files
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.flags import Flags

PLATFORM = "tensorflow"
_OLD_TENSORFLOW = 1
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
    config = text_files.read(path, ModelServerConfig())
    if config.HasField("custom_model_config"):
        raise ServingError(
            Code.UNIMPLEMENTED, "ModelServer does not yet support custom model config."
        )
    return config


def check_names(models: Sequence[ModelConfig]) -> None:
    """Refuse a list that names a model twice or gives a relative path.

    Raises:
        ServingError: INVALID_ARGUMENT for the first fault.
    """
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


def check_platforms_kept(old: Iterable[ModelConfig], new: Iterable[ModelConfig]) -> None:
    """Refuse another platform for a model that was listed before.

    Raises:
        ServingError: INVALID_ARGUMENT for the first fault.
    """
    before = {model.name: _platform(model) for model in old}
    for model in new:
        if model.name in before and _platform(model) != before[model.name]:
            raise invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was"
                f" {before[model.name]} and new platform requested is {_platform(model)}"
            )


def check_platforms(models: Iterable[ModelConfig]) -> None:
    """Refuse every platform but TensorFlow.

    Raises:
        ServingError: INVALID_ARGUMENT for the first fault.
    """
    for model in models:
        if _platform(model) != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {_platform(model)}")


def check_logging(models: Iterable[ModelConfig]) -> None:
    """Refuse request logging, which the real server does after it has loaded the models.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if any(model.HasField("logging_config") for model in models):
        raise invalid("No request-logger-creator provided.")


def _platform(model: ModelConfig) -> str:
    old, new = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform"
    if bool(model.model_type) == bool(model.model_platform):
        what = f"both {old} and {new}" if model.model_type else f"neither {old} nor {new}"
        raise invalid(f"Illegal setting {what}, model name is {model.name}")
    if model.model_type not in (0, _OLD_TENSORFLOW):
        raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return model.model_platform or PLATFORM


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
