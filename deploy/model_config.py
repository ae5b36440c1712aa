"""What the server is to serve: its `models.config`, and the versions on disk that this selects.

The messages are declared here, for their own package would bring TensorFlow with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

# tensorflow_serving/config/model_server_config.proto and file_system_storage_path_source.proto,
# without what makes the server refuse the whole file: `logging_config`, `custom_model_config`.
_DECLARED = """
name: "deploy/model_config.proto" package: "deploy" syntax: "proto2"
enum_type { name: "Type" value { name: "MODEL_TYPE_UNSPECIFIED" number: 0 }
  value { name: "TENSORFLOW" number: 1 } value { name: "OTHER" number: 2 } }
message_type { name: "Server"
  field { name: "model_config_list" number: 1 label: LABEL_OPTIONAL type_name: ".deploy.Models" } }
message_type { name: "Models"
  field { name: "config" number: 1 label: LABEL_REPEATED type_name: ".deploy.Model" } }
message_type { name: "Model"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "base_path" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type_name: ".deploy.Type" }
  field { name: "model_platform" number: 4 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "model_version_policy" number: 7 label: LABEL_OPTIONAL type_name: ".deploy.Policy" }
  field { name: "version_labels" number: 8 label: LABEL_REPEATED type_name: ".deploy.Model.Label" }
  nested_type { name: "Label" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 } } }
message_type { name: "Policy" oneof_decl { name: "choice" }
  field { name: "latest" number: 100 label: LABEL_OPTIONAL type_name: ".deploy.Policy.Latest"
          oneof_index: 0 }
  field { name: "all" number: 101 label: LABEL_OPTIONAL type_name: ".deploy.Policy.All"
          oneof_index: 0 }
  field { name: "specific" number: 102 label: LABEL_OPTIONAL type_name: ".deploy.Policy.Specific"
          oneof_index: 0 }
  nested_type { name: "Latest"
    field { name: "num_versions" number: 1 label: LABEL_OPTIONAL type: TYPE_UINT32 } }
  nested_type { name: "All" }
  nested_type { name: "Specific"
    field { name: "versions" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } } }
"""
_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")
_INT64 = 1 << 63
_FILE_SCHEME = "file://"


def _message_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_DECLARED, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("deploy.Server"))


_Server = _message_class()


class ConfigError(Exception):
    """The file cannot be read, or is none that the server would take."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the configuration.

    Attributes:
        name: as callers ask for it.
        base_path: the folder of its version folders, as the server sees it.
        labels: label → version.
        specific: the versions that a `specific` policy names; None with any other policy.
        latest: how many of the highest are served; None with any other policy.
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
        config = text_format.Parse(path.read_bytes().decode(), _Server())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:{error}") from None
    models = tuple(map(_model, config.model_config_list.config))
    for model in models:
        if sum(model.name == other.name for other in models) > 1:
            raise ConfigError(f"{path}: the model {model.name!r} is listed more than once")
    return models


def versions(base_path: Path) -> frozenset[int]:
    """The version numbers in a folder, by the server's rule for names: any 64-bit integer.

    Raises:
        OSError: there is no such folder, or it may not be read.
    """
    numbers = (int(path.name) for path in base_path.iterdir() if _NUMBER.fullmatch(path.name))
    return frozenset(number for number in numbers if -_INT64 <= number < _INT64)


def _model(config: Any) -> Model:
    policy = config.model_version_policy
    choice = policy.WhichOneof("choice") or "latest"
    return Model(
        name=config.name,
        base_path=config.base_path.removeprefix(_FILE_SCHEME),
        labels=dict(config.version_labels),
        specific=frozenset(policy.specific.versions) if choice == "specific" else None,
        latest=policy.latest.num_versions or 1 if choice == "latest" else None,
    )
