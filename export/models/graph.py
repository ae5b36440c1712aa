"""The graph of a SavedModel: what of it the official server cannot run, and its signatures' names.

Loading in this process would not show it: here there are Python, XLA and whatever was imported.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from export.errors import InputError

_GRAPH = "saved_model.pb"
_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_MORE = ("_", "SimpleML")  # inner ones; TensorFlow Decision Forests', in the server since 2.11


def check(folder: Path) -> None:
    """Refuse what the server's process lacks.

    Raises:
        InputError: Python, XLA, or an operation that is not TensorFlow's.
    """
    for graph in _read(folder).meta_graphs:
        functions = graph.graph_def.library.function
        own = {function.signature.name for function in functions}
        for node in itertools.chain(graph.graph_def.node, *(f.node_def for f in functions)):
            if node.op in _PYTHON:
                raise InputError(
                    f"operation {node.op} ({node.name}) calls Python, which the server lacks: "
                    "use TensorFlow's operations in place of py_function and numpy_function"
                )
            if not (hasattr(tf.raw_ops, node.op) or node.op in own or node.op.startswith(_MORE)):
                raise InputError(
                    f"operation {node.op} ({node.name}) is not TensorFlow's own, and the official "
                    "server does not have it"
                )
        for function in functions:
            if "_XlaMustCompile" in function.attr and function.attr["_XlaMustCompile"].b:
                raise InputError(
                    f"function {function.signature.name} must be compiled by XLA, which the server "
                    "does not do: save it without jit_compile=True"
                )


def rename_inputs(folder: Path, aliases: Mapping[str, str]) -> None:
    """Give the inputs of `serving_default` names that Python's own rules for names forbid."""
    model = _read(folder)
    for graph in model.meta_graphs:
        inputs = graph.signature_def["serving_default"].inputs
        for old, new in aliases.items():
            if old != new:
                inputs[new].CopyFrom(inputs[old])
                del inputs[old]
    (folder / _GRAPH).write_bytes(model.SerializeToString(deterministic=True))


def _read(folder: Path) -> Any:
    try:
        return saved_model_pb2.SavedModel.FromString((folder / _GRAPH).read_bytes())
    except DecodeError as error:
        raise InputError(f"{folder.name}/{_GRAPH} is damaged: {error}") from error
