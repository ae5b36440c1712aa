"""What the server's model configuration says about a model, as far as publication must know it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.errors import InputError

NAME = "models.config"  # in the repository's root, which the server sees as /models


def named_versions(root: Path, name: str) -> set[int]:
    """Versions of `<root>/<name>` that `<root>/models.config` serves by number or labels.

    The file is a text proto `ModelServerConfig` (`--model_config_file`); without one the set is
    empty. Several models may serve one folder; a model is known by its base path's last part, for
    the server may see the repository under another path.

    Raises:
        InputError: the file is no such text proto.
        OSError: it cannot be read.
    """
    path = root / NAME
    if not path.exists():
        return set()
    try:
        config = text_format.Parse(
            path.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig()
        )
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no ModelServerConfig: {error}") from None
    models = [
        model
        for model in config.model_config_list.config
        if PurePosixPath(model.base_path).name == name
    ]
    served = {number for m in models for number in m.model_version_policy.specific.versions}
    labelled = {number for m in models for number in m.version_labels.values()}
    return served | labelled
