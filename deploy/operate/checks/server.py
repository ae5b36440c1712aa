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
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # as at export; it is part of paths and metrics
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Strings and comments, which are skipped, or a number of several digits that begins with 0.
_OCTAL = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#.*|(?<![\w.])-?(0[0-9]+)(?![\w.])""")
_PLACE = re.compile(r"(\d+):\d+ : (.*)", re.DOTALL)


def problems(files: Mapping[str, bytes], models: Path, running: bytes = b"") -> Iterator[str]:
    """What the server would refuse, or would read differently than it looks.

    Args:
        files: the contents of the files by name.
        models: the folder that is mounted as /models.
        running: the `models.config` of running servers, which refuse some changes.
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
            if not octal:  # which may be the cause
                yield str(error)
        except ServingError as error:
            yield f"{_path(name)}: {error.message}"
    if MODELS not in parsed:
        return
    config = parsed[MODELS]
    if config.HasField("custom_model_config"):
        yield f"{_path(MODELS)}: custom_model_config is not supported by the server; remove it"
    listed = config.model_config_list.config
    for name in sorted({model.name for model in listed if _count(listed, model.name) > 1}):
        yield (
            f"{_path(MODELS)}: there is more than one model {name!r}, so the server loads none; "
            "remove one"
        )
    before = _models(running)
    for model in listed:
        for problem in _of_model(model, models, before.get(model.name)):
            yield f"{_path(MODELS)}: model {model.name}: {problem}"


def misnamed(name: str) -> str:
    """Why this cannot be the name of a model; "" if it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"{name!r} is not a valid name: expected letters, digits, '_', '.', '-'"


def _path(name: str) -> str:
    return str(place(name).relative_to(FOLDER.parent))


def _parsed(name: str, content: bytes, message: Any) -> Any:
    """The message in a file.

    Raises:
        ValueError: it holds no such message; the text says where and why.
    """
    if not content:
        raise ValueError(f"{_path(name)}: the file is missing or empty")
    try:
        return text_format.Parse(content.decode(), message)
    except UnicodeDecodeError as error:
        raise ValueError(f"{_path(name)}: byte {error.start} is not UTF-8 text") from None
    except text_format.ParseError as error:
        place = _PLACE.fullmatch(str(error))
        line, why = place.groups() if place else ("", str(error))
        why = " ".join(why.split()).replace('"checks.', '"')
        raise ValueError(f"{_path(name)}:{line}: {why}") from None


def _models(text: bytes) -> dict[str, Any]:
    try:
        config = _parsed(MODELS, text, ModelServerConfig())
    except ValueError:  # nothing runs, or a configuration that could not be started
        return {}
    return {model.name: model for model in config.model_config_list.config}


def _count(models: Any, name: str) -> int:
    return sum(model.name == name for model in models)


def _octal(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for found in _OCTAL.finditer(line):
            if digits := found[1]:
                octal = re.fullmatch("[0-7]+", digits)
                means = f"as octal, {int(digits, 8)}" if octal else "as no number at all"
                yield (
                    f"{_path(name)}:{number}: {digits} begins with a zero: the server reads it "
                    f"{means}; write {int(digits)}"
                )


def _of_model(model: Any, models: Path, before: Any) -> Iterator[str]:
    if wrong := misnamed(model.name):
        yield wrong
    if model.HasField("logging_config"):
        yield "the server cannot log requests, and does not start with a logging_config; remove it"
    platform = model.model_platform or ("tensorflow" if model.model_type == 1 else "")
    if platform != "tensorflow" or (model.model_platform and model.model_type):
        yield 'it needs exactly one model_platform: "tensorflow"'
    base = model.base_path
    if URI.match(base):
        return  # not on this disk
    if not base.startswith("/"):
        yield f"base_path {base!r} is relative; the server needs an absolute path"
        return
    folder = folder_of(base, models)
    if folder is None:
        yield f"base_path {base!r} does not exist in the container; models are in {INSIDE}"
        return
    publish = f"publish one with `python -m export --name {folder.name}`"
    try:
        versions = model_config.versions(folder)
    except OSError as error:
        # Until that folder exists, the server would load no version of any model.
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
            yield f"its policy names version {number}, which is not in {folder}"
    wanted = model_config.model(model).wanted(versions)
    for number in sorted(wanted):
        if not any((versions[number] / file).is_file() for file in _SAVED_MODEL):
            yield f"{versions[number]} is not a version: it has no {_SAVED_MODEL[0]}"
        if (own := versions[number] / limits.PARAMETERS_FILE).exists():
            try:
                limits.read(text_files.read(own, text_files.BatchingParameters()))
            except ServingError as error:
                yield f"{own}: {error.message}"
    for label, number in sorted(model.version_labels.items()):
        if number not in versions:
            yield f"label {label!r} names version {number}, which is not in {folder}"
        elif number not in wanted:
            yield f"label {label!r} names version {number}, which its policy does not serve"
        elif before is not None and label in before.version_labels:
            moved = before.version_labels[label] != number
            if moved and number not in model_config.model(before).wanted(versions):
                yield (
                    f"label {label!r} moves to version {number}, which is not served yet: a "
                    "running server refuses that; serve it first, and then move the label"
                )
