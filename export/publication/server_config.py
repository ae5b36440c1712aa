"""What the server's model configuration says about a model, as far as publication must know it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.errors import InputError

NAME = "models.config"
_DEPLOY = Path(__file__).parents[2] / "deploy"


def named_versions(root: Path, name: str) -> set[int]:
    """Versions of `<root>/<name>` that a server serves, or is about to, by number or labels.

    The files are text protos `ModelServerConfig` (`--model_config_file`). Several models may serve
    one folder; a model is known by its base path's last part, for the server may see the repository
    under another path.

    Raises:
        InputError: one of the files is not a valid text proto.
        OSError: one cannot be read.
    """
    models = [
        model
        for path in _files(root)
        for model in _read(path).model_config_list.config
        if PurePosixPath(model.base_path).name == name
    ]
    served = {number for m in models for number in m.model_version_policy.specific.versions}
    labelled = {number for m in models for number in m.version_labels.values()}
    return served | labelled


def _files(root: Path) -> Iterator[Path]:
    """What servers read: the bundle's own, this machine's, its copy, and one next to the models."""
    yield _DEPLOY / "server" / NAME
    machine = _DEPLOY / "machine"
    for path in (machine / "server" / NAME, machine / "config" / NAME, root / NAME):
        if path.exists():
            yield path


def _read(path: Path) -> model_server_config_pb2.ModelServerConfig:
    try:
        return text_format.Parse(path.read_bytes(), model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a ModelServerConfig: {error}") from None
