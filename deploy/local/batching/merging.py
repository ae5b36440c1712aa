"""Several runs' inputs in one, as TensorFlow Serving's BatchingSession puts them together."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from deploy.local.errors import Code, ServingError, invalid
from deploy.local.tensors import DTYPES, Array, dtype_of

_MOST_PADDED_DIMENSIONS = 6


def rows_of(feeds: Mapping[str, Array]) -> int:
    """The first dimension that all inputs share."""
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    rows = None
    for array in feeds.values():
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows not in (None, len(array)):
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
    assert rows is not None
    return rows


def merge(
    tasks: Sequence[Mapping[str, Array]], extra: int = 0, *, pad: bool = False
) -> dict[str, Array]:
    """The feeds of several tasks in one, then `extra` times the first row of the last task.

    Args:
        tasks: arrays by tensor name, the same names in each.
        extra: how many rows to add; none if no task has any row.
        pad: make inner dimensions equal.

    Raises:
        ServingError: the arrays of one name do not fit together.
    """
    first = tasks[0]
    for feeds in tasks[1:]:
        for name, array in feeds.items():
            same_rank = array.ndim == first[name].ndim
            if not same_rank or (not pad and array.shape[1:] != first[name].shape[1:]):
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and"
                    " padding is turned off. Set pad_variable_length_inputs to true, or ensure"
                    " that all tensors with the same name have equal dimensions starting with the"
                    " first dim.",
                )
    merged = {}
    for name in sorted(first):
        arrays = [feeds[name] for feeds in tasks]
        if pad:
            inner = tuple(map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))
            arrays = [_padded(array, inner) for array in arrays]
        if extra:
            # A last task without rows has none to repeat.
            last = next(array for array in reversed(arrays) if len(array))
            arrays.append(np.repeat(last[:1], extra, axis=0))
        merged[name] = _concatenated(arrays)
    return merged


def _padded(array: Array, inner: tuple[int, ...]) -> Array:
    """An array with larger inner dimensions, filled up with its own first element."""
    if array.ndim > _MOST_PADDED_DIMENSIONS:
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    shape = (len(array), *inner)
    if math.prod(shape) == array.size:
        return array.reshape(shape)
    if not array.size:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full(shape, array.flat[0], array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded


def _concatenated(arrays: list[Array]) -> Array:
    for array in arrays:
        if array.dtype != arrays[0].dtype:
            names = [DTYPES[dtype_of(each)].name for each in (arrays[0], array)]
            raise ServingError(
                Code.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that"
                f" have different data types. Got {names[0]} and {names[1]}.",
            )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
