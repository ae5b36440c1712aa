"""A SavedModel as the server sees it.

TensorFlow Serving loads with the C++ loader into a session, which Python reaches through
`tf.compat.v1`. `tf.saved_model.load` is another path: it succeeds on models that fail on every
request in the server. So every check goes through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from export.npz import Array

_ROWS = 1_000  # per call, as many as the server takes in one batch by default


class ServedModel:
    """One version, loaded the server's way.

    Raises:
        tensorflow.errors.OpError, RuntimeError: the version does not load.
    """

    def __init__(self, folder: Path) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            try:
                meta_graph = tf.compat.v1.saved_model.loader.load(
                    self._session, [tf.saved_model.SERVING], str(folder)
                )
            except ValueError as error:  # Python's own, where weights are missing
                raise RuntimeError(str(error)) from error
        self.signatures: Mapping[str, Any] = {
            name: definition
            for name, definition in meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self, signature: str, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Call a signature, in parts of `_ROWS` rows.

        Args:
            signature: its name.
            inputs: arrays by alias, of as many rows each; an array alone where there is one input.

        Raises:
            KeyError: no such signature, or another input.
            tensorflow.errors.OpError: the graph refuses the values.
        """
        definition = self.signatures[signature]
        if not isinstance(inputs, Mapping):
            inputs = dict.fromkeys(definition.inputs, inputs)
        feeds = {definition.inputs[alias].name: values for alias, values in inputs.items()}
        fetches = {alias: info.name for alias, info in definition.outputs.items()}
        rows = max((len(values) for values in feeds.values() if values.ndim), default=1)
        parts = [
            self._session.run(fetches, {name: _part(values, at) for name, values in feeds.items()})
            for at in range(0, rows, _ROWS)
        ]
        if len(parts) == 1:
            return dict(parts[0])
        return {alias: np.concatenate([part[alias] for part in parts]) for alias in fetches}


def _part(values: Array, start: int) -> Array:
    return values[start : start + _ROWS] if values.ndim else values
