"""`predict`: a model's answer to inputs from a file."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from tfserving_client.command.connection import settings

if TYPE_CHECKING:
    from tfserving_client import Prediction


def predict(options: argparse.Namespace) -> int:
    """Print the outputs; the exit status."""
    from tfserving_client import ServingClient

    inputs = _read(options.inputs)
    with ServingClient(**settings(options), timeout=options.timeout) as serving:
        answer = serving.predict(
            inputs, signature=options.signature, version=options.version, label=options.label
        )
    if options.json:
        outputs = {alias: array.tolist() for alias, array in sorted(answer.outputs.items())}
        print(json.dumps({"outputs": outputs, "version": answer.version}, default=_plain))
    else:
        _print(answer)
    return 0


def _read(file: str) -> Any:
    """Inputs by name, or one array: an .npz, or JSON with bytes as REST has them."""
    from tfserving_client import InvalidInput

    try:
        if file == "-":
            return json.load(sys.stdin.buffer, object_hook=_object)
        with open(file, "rb") as opened:  # noqa: PTH123 (Path("") would be this folder)
            is_archive = opened.read(4) == b"PK\3\4"
            opened.seek(0)
            return _arrays(opened) if is_archive else json.load(opened, object_hook=_object)
    except OSError as error:
        raise InvalidInput(f"{file!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file!r} is neither JSON nor .npz: {error}") from error


def _arrays(file: BinaryIO) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except zipfile.BadZipFile as error:
        raise ValueError(error) from error


def _object(members: dict[str, Any]) -> Any:
    if members.keys() == {"b64"} and isinstance(members["b64"], str):
        return base64.b64decode(members["b64"], validate=True)
    return members


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return str(value)  # a complex number
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _print(answer: Prediction) -> None:
    for alias, array in sorted(answer.outputs.items()):
        kind = "string" if array.dtype == object else array.dtype
        print(f"{alias}: {kind} {list(array.shape)}")
        print(array)
    if answer.version is not None:
        print(f"version {answer.version}")
