"""What the server has to serve: its `models.config`, and the versions on disk that it selects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from deploy.server_messages import ModelServerConfig

_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_INT64 = 1 << 63
_FILE_SCHEME = "file://"


class ConfigError(Exception):
    """The file cannot be read, or the server would refuse it."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the configuration.

    Attributes:
        name: the name that callers use.
        base_path: the folder of its version folders, as a path in the server.
        labels: label → version.
        specific: the versions that a `specific` policy names; None with any other policy.
        latest: how many of the highest versions are served; None with any other policy.
    """

    name: str
    base_path: str
    labels: Mapping[str, int]
    specific: frozenset[int] | None
    latest: int | None

    def wanted(self, on_disk: Iterable[int]) -> frozenset[int]:
        """The versions that the policy selects from those that exist."""
        numbers = sorted(on_disk)
        if self.specific is not None:
            return self.specific.intersection(numbers)
        return frozenset(numbers if self.latest is None else numbers[-self.latest :])


def read(path: Path) -> tuple[Model, ...]:
    """The models that a file configures.

    Raises:
        ConfigError: one sentence that begins with the path.
    """
    try:
        return parsed(path.read_bytes().decode(), path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{error}") from None


def parsed(text: str, path: object) -> tuple[Model, ...]:
    """The models that such a file's text configures.

    Raises:
        ConfigError: as `read`; begins with `path`.
    """
    try:
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{path}:{error}") from None
    if config.HasField("custom_model_config"):
        raise ConfigError(f"{path}: custom_model_config is not supported by the server; remove it")
    listed = config.model_config_list.config
    if any(model.HasField("logging_config") for model in listed):
        raise ConfigError(
            f"{path}: logging_config is set, but the server cannot log requests; remove it"
        )
    models = tuple(map(model, listed))
    for one in models:
        if sum(one.name == other.name for other in models) > 1:
            raise ConfigError(
                f"{path}: the model {one.name!r} is listed more than once; remove one"
            )
    return models


def versions(base_path: Path) -> dict[int, Path]:
    """Version number → its folder, by the server's rule for names: any 64-bit integer.

    Blanks around the number, a sign and leading zeros are allowed.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    named = {int(path.name): path for path in base_path.iterdir() if _NUMBER.fullmatch(path.name)}
    return {number: path for number, path in named.items() if -_INT64 <= number < _INT64}


def model(config: Any) -> Model:
    """A `ModelConfig` message of the file, as the server reads it."""
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    return Model(
        name=config.name,
        base_path=config.base_path.removeprefix(_FILE_SCHEME),
        labels=dict(config.version_labels),
        specific=frozenset(policy.specific.versions) if choice == "specific" else None,
        latest=policy.latest.num_versions or 1 if choice == "latest" else None,
    )
