"""The features of a tf.Example, as callers write them: name → number, text, bytes, or some of one.

Source: tensorflow/core/example/feature.proto: a feature is a list of bytes, of float32 or of int64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfserving_client.call.arguments import shown, typed
from tfserving_client.errors import InvalidInput

Features = Mapping[str, list[bytes] | list[float] | list[int]]


def checked_examples(examples: Any) -> list[Features]:
    """Each example's features as lists of one kind; an empty list has none.

    Raises:
        InvalidInput: no examples, or a value that no feature can hold.
    """
    if isinstance(examples, Mapping) or not isinstance(examples, Iterable):
        raise InvalidInput(
            f"examples are {typed(examples)}; expected a list of mappings from feature "
            "names to values"
        )
    found = [checked_features(example, index) for index, example in enumerate(examples)]
    if not found:
        raise InvalidInput("no example is given; expected at least one")
    return found


def checked_features(example: Any, index: int = 0) -> Features:
    """One example's features; `index` is its place among others, for what refusals call it."""
    if not isinstance(example, Mapping):
        raise InvalidInput(
            f"example {index} is {typed(example)}; expected a mapping from feature names to values"
        )
    return {str(name): _values(f"feature {shown(name)} of example {index}", value)
            for name, value in example.items()}  # fmt: skip


def _values(what: str, value: Any) -> Any:
    if isinstance(value, str | bytes):
        value = [value]
    try:
        values = np.asarray(value, object)
    except Exception as error:  # a caller's own object may raise anything
        raise InvalidInput(f"{what} cannot be read: {shown(error)}") from error
    if values.ndim > 1:
        raise InvalidInput(f"{what} is nested; expected one value or a flat list")
    flat = [item.item() if isinstance(item, np.generic) else item for item in values.ravel()]
    kinds = {type(item) for item in flat}
    if kinds <= {str, bytes}:
        return [item.encode() if isinstance(item, str) else item for item in flat]
    if kinds <= {int, bool}:
        if not all(-(2**63) <= item < 2**63 for item in flat):
            raise InvalidInput(f"{what} holds an integer of more than 64 bits")
        return [int(item) for item in flat]
    if kinds <= {int, bool, float}:
        return _floats(what, flat)
    wrong = next(item for item in flat if not isinstance(item, int | float))
    raise InvalidInput(
        f"{what} holds {shown(wrong)}, {typed(wrong)}; expected numbers, text or bytes"
    )


def _floats(what: str, values: list[float]) -> list[float]:
    try:
        floats = np.array(values, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lost = np.isinf(floats.astype(np.float32)) & np.isfinite(floats)
    except OverflowError:  # an integer of Python beyond them all
        lost = np.array(True)
    if lost.any():
        raise InvalidInput(f"{what} holds a number that is too large for float32")
    found: list[float] = floats.tolist()
    return found
