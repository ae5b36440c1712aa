"""The server's files: `models.config`, `batching.config` and `monitoring.config`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from deploy import FOLDER, model_config
from deploy.local import text_files
from deploy.local.batching import limits
from deploy.local.errors import ServingError
from deploy.operate.stack.served import INSIDE, MODELS, folder_of, place
from deploy.server_messages import ModelServerConfig

BATCHING, MONITORING = "batching.config", "monitoring.config"
_MESSAGES = {
    MODELS: ModelServerConfig,
    BATCHING: text_files.BatchingParameters,
    MONITORING: text_files.MonitoringConfig,
}
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # as exported; stands in paths and metrics
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Strings and comments, passed over, or a number that begins with 0 and goes on.
_OCTAL = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#.*|(?<![\w.])-?(0[0-9]+)(?![\w.])""")
_PLACE = re.compile(r"(\d+):\d+ : (.*)", re.DOTALL)


def problems(files: Mapping[str, bytes], models: Path, running: bytes = b"") -> Iterator[str]:
    """What the server would refuse, or do otherwise than it looks.

    Args:
        files: the files' contents by name.
        models: the folder that the server sees as /models.
        running: the `models.config` of servers that run, which refuse some changes.
    """
    parsed = {}
    for name, message in _MESSAGES.items():
        text = files.get(name, b"")
        octal = list(_octal(name, text.decode(errors="replace")))
        yield from octal
        try:
            parsed[name] = _parsed(name, text, message())
            if name == BATCHING:
                limits.read(parsed[name])
        except ValueError as error:
            if not octal:  # which may be why
                yield str(error)
        except ServingError as error:
            yield f"{_path(name)}: {error.message}"
    if MODELS not in parsed:
        return
    config = parsed[MODELS]
    if config.HasField("custom_model_config"):
        yield f"{_path(MODELS)}: custom_model_config is nothing that the server can read"
    listed = config.model_config_list.config
    for name in sorted({model.name for model in listed if _count(listed, model.name) > 1}):
        yield f"{_path(MODELS)}: there is more than one model {name!r}; the server takes none then"
    before = _models(running)
    for model in listed:
        for problem in _of_model(model, models, before.get(model.name)):
            yield f"{_path(MODELS)}: model {model.name}: {problem}"


def misnamed(name: str) -> str:
    """Why a model cannot be called so; "" if it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"{name!r} is no name: expected letters, digits, '_', '.', '-'"


def _path(name: str) -> str:
    return str(place(name).relative_to(FOLDER.parent))


def _parsed(name: str, content: bytes, message: Any) -> Any:
    """The message that a file holds.

    Raises:
        ValueError: none; says where and why.
    """
    if not content:
        raise ValueError(f"{_path(name)}: the file is missing or empty")
    try:
        return text_format.Parse(content.decode(), message)
    except UnicodeDecodeError as error:
        raise ValueError(f"{_path(name)}: byte {error.start} is no text") from None
    except text_format.ParseError as error:
        place = _PLACE.fullmatch(str(error))
        line, why = place.groups() if place else ("", str(error))
        why = " ".join(why.split()).replace('"checks.', '"')
        raise ValueError(f"{_path(name)}:{line}: {why}") from None


def _models(text: bytes) -> dict[str, Any]:
    try:
        config = _parsed(MODELS, text, ModelServerConfig())
    except ValueError:  # nothing runs, or what could not be started
        return {}
    return {model.name: model for model in config.model_config_list.config}


def _count(models: Any, name: str) -> int:
    return sum(model.name == name for model in models)


def _octal(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for found in _OCTAL.finditer(line):
            if digits := found[1]:
                octal = re.fullmatch("[0-7]+", digits)
                means = f"as octal, {int(digits, 8)}" if octal else "as nothing at all"
                yield (
                    f"{_path(name)}:{number}: {digits} begins with a zero: the server reads it "
                    f"{means}; write {int(digits)}"
                )


def _of_model(model: Any, models: Path, before: Any) -> Iterator[str]:
    if wrong := misnamed(model.name):
        yield wrong
    if model.HasField("logging_config"):
        yield "logging_config ends the server's start: it cannot log requests"
    platform = model.model_platform or ("tensorflow" if model.model_type == 1 else "")
    if platform != "tensorflow" or (model.model_platform and model.model_type):
        yield 'its platform has to be named, and once: model_platform: "tensorflow"'
    base = model.base_path
    if URI.match(base):
        return  # not on this disk
    if not base.startswith("/"):
        yield f"base_path {base!r} is relative; the server wants an absolute one"
        return
    folder = folder_of(base, models)
    if folder is None:
        yield f"base_path {base!r} is not in the container, whose versions lie under {INSIDE}"
        return
    publish = f"publish one with `python -m export --name {folder.name}`"
    try:
        versions = model_config.versions(folder)
    except OSError as error:
        # The server would load no version of any model until that folder exists.
        yield f"{folder} holds no version: {error.strerror}; {publish}"
        return
    if not versions:
        yield f"{folder} holds no version; {publish}"
        return
    yield from _of_versions(model, folder, versions, before)


def _of_versions(
    model: Any, folder: Path, versions: Mapping[int, Path], before: Any
) -> Iterator[str]:
    for number in model.model_version_policy.specific.versions:
        if number not in versions:
            yield f"version {number} of its policy is not in {folder}"
    wanted = model_config.model(model).wanted(versions)
    for number in sorted(wanted):
        if not any((versions[number] / file).is_file() for file in _SAVED_MODEL):
            yield f"{versions[number]} is no version: it holds no {_SAVED_MODEL[0]}"
        if (own := versions[number] / limits.PARAMETERS_FILE).exists():
            try:
                limits.read(text_files.read(own, text_files.BatchingParameters()))
            except ServingError as error:
                yield f"{own}: {error.message}"
    for label, number in sorted(model.version_labels.items()):
        if number not in versions:
            yield f"label {label!r} is for version {number}, which is not in {folder}"
        elif number not in wanted:
            yield f"label {label!r} is for version {number}, which its policy does not serve"
        elif before is not None and label in before.version_labels:
            moved = before.version_labels[label] != number
            if moved and number not in model_config.model(before).wanted(versions):
                yield (
                    f"label {label!r} moves to version {number}, which is not served yet: a "
                    "running server refuses that; serve it first, and then move the label"
                )
