"""The names in the server's `models.config`.

Its messages are declared here as far as names go, and all else in the file is passed over: their
own package would bring TensorFlow with it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_DECLARED = """
name: "exporter/models.proto" package: "exporter"
message_type { name: "Model"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
message_type { name: "Models"
  field { name: "config" number: 1 label: LABEL_REPEATED type_name: ".exporter.Model" } }
message_type { name: "Server"
  field { name: "model_config_list" number: 1 label: LABEL_OPTIONAL
          type_name: ".exporter.Models" } }
"""


def _server_config() -> Any:
    pool = descriptor_pool.DescriptorPool()
    file = text_format.Parse(_DECLARED, descriptor_pb2.FileDescriptorProto())
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("exporter.Server"))()


class Models:
    """The models that are configured now: the server reads the file again while it runs.

    Attributes:
        names: as they were at the last `read`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: tuple[str, ...] = ()

    def read(self) -> None:
        """Read the file; keep the names when it cannot be read, as the server keeps its models."""
        try:
            text = self._path.read_text()
            config = text_format.Parse(text, _server_config(), allow_unknown_field=True)
        except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
            logging.warning("%s is left alone: %s", self._path, error)
        else:
            self.names = tuple(model.name for model in config.model_config_list.config)
