"""What a caller holds → arrays of the dtypes and ranks that a signature declares, or a refusal.

The server compares no shapes, wraps integers that do not fit, and takes what the graph happens to
take, so everything is checked here. A value is converted where that loses nothing. Fractions are
rounded to a float type's precision, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfserving_client.call.arguments import shown, typed
from tfserving_client.errors import InvalidInput
from tfserving_client.results import Signature, TensorSpec
from tfserving_client.tensors import dtypes
from tfserving_client.tensors.dtypes import DType

Array = NDArray[Any]
_KINDS = {"f": "floats", "c": "complex numbers", "b": "booleans", "U": "text", "S": "bytes",
          "M": "dates", "m": "durations", "V": "records", "O": "objects"}  # fmt: skip


def conformed(name: str, signature: Signature, inputs: Any) -> dict[str, Array]:
    """The signature's inputs as arrays that can be sent.

    Args:
        name: the signature's, for messages.
        signature: what the model declares.
        inputs: input name → array-like, a data frame among them; or one array-like, where there is
            one input.

    Raises:
        InvalidInput: an unknown or missing input, another rank or size, ragged lists, or values
            that the dtype cannot hold.
    """
    declared = signature.inputs
    if len(declared) != 1 and hasattr(inputs, "keys"):
        inputs = dict(inputs)  # a data frame of pandas
    if not isinstance(inputs, Mapping):
        if len(declared) != 1:
            raise InvalidInput(
                f"signature {name!r} takes {len(declared)} inputs, {_listed(declared)}; expected a "
                f"mapping of their names to values, not {typed(inputs)}"
            )
        inputs = dict.fromkeys(declared, inputs)
    if unknown := [alias for alias in inputs if alias not in declared]:
        raise InvalidInput(
            f"signature {name!r} has no input {shown(unknown[0])}; it takes {_listed(declared)}"
        )
    required = [alias for alias in declared if alias not in signature.optional]
    if missing := [alias for alias in required if alias not in inputs]:
        raise InvalidInput(
            f"input {missing[0]!r} of signature {name!r} is missing; it takes {_listed(declared)}"
        )
    return {
        alias: tensor(f"input {alias!r}", value, declared[alias]) for alias, value in inputs.items()
    }


def as_they_are(inputs: Any) -> dict[str, Array]:
    """Arrays of the dtypes that they have already; Python's numbers get numpy's for them.

    Raises:
        InvalidInput: no mapping, ragged lists, or a dtype that TensorFlow has not.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidInput(
            f"inputs are {typed(inputs)}; raw=True expects a mapping of input names, "
            "since no signature is asked for"
        )
    return {alias: _as_it_is(f"input {alias!r}", value) for alias, value in inputs.items()}


def _as_it_is(what: str, value: Any) -> Array:
    array = _array(what, value)
    if array.dtype.kind in "OUS":
        return _strings(what, value)
    row = dtypes.own(array)
    if row is None:
        raise InvalidInput(f"{what} has dtype {array.dtype}, which TensorFlow does not have")
    return _bits(array, row)


def has_masked(array: Array) -> bool:
    """Whether values of it are masked. A plain array is not asked: that would import `numpy.ma`."""
    return type(array) is not np.ndarray and bool(np.ma.is_masked(array))


def tensor(what: str, value: Any, spec: TensorSpec) -> Array:
    """A value as the array that a tensor of the signature is.

    Args:
        what: its name in messages: "input 'price'".
        value: an array-like.
        spec: what the model declares.

    Raises:
        InvalidInput: another rank or size, ragged lists, or values that the dtype cannot hold.
    """
    row = dtypes.BY_NAME.get(spec.dtype)
    if row is None:
        raise InvalidInput(f"{what} is {spec.dtype}, which cannot be sent")
    if row is dtypes.STRING:
        array = _strings(what, value)
    else:
        array = _array(what, value)
        if array.dtype != row.numpy:
            array = _numbers(what, value, array, row)
    if spec.shape is not None and not _fits(array.shape, spec.shape):
        sizes = ", ".join("n" if size is None else str(size) for size in spec.shape)
        expected = f"({sizes},)" if len(spec.shape) == 1 else f"({sizes})"
        raise InvalidInput(f"{what} has shape {array.shape}; expected {expected}")
    return array


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        wanted in {None, size} for size, wanted in zip(shape, declared, strict=True)
    )


def _array(what: str, value: Any, dtype: Any = None) -> Array:
    if isinstance(value, np.ndarray):
        if has_masked(value):
            raise InvalidInput(f"{what} has masked values; fill them first")
        return value if dtype is None else value.astype(dtype, copy=False)
    try:
        return np.asarray(value, dtype)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise _ragged(what) from None
        raise InvalidInput(f"{what} is no array: {shown(error)}") from error
    except Exception as error:  # a caller's own object may raise anything
        raise InvalidInput(f"{what}, {typed(value)}, cannot be read: {shown(error)}") from error


def _ragged(what: str) -> InvalidInput:
    return InvalidInput(f"{what} has lists of different lengths; expected an array")


def _numbers(what: str, value: Any, array: Array, row: DType) -> Array:
    if array.size == 0 and not isinstance(value, np.ndarray):
        return np.zeros(array.shape, row.numpy)  # an empty list has no type
    if dtypes.own(array) is row:
        return _bits(array, row)
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # of ml_dtypes
        array = dtypes.from_bfloat16(array)
    if array.dtype.kind == "f" and not isinstance(value, np.ndarray) and array.max() >= 2.0**63:
        # Integers of Python that no one integer type of numpy holds together: 2**64 - 1 and -1.
        exact = _array(what, value, object)
        array = exact if set(map(type, exact.ravel())) == {int} else array
    if array.dtype.kind == "O":
        array = _of_objects(what, array)
    kind = "i" if row.bounds else "f" if row is dtypes.BFLOAT16 else row.numpy.kind
    if array.dtype.kind not in _ACCEPTED[kind]:
        held = _KINDS.get(array.dtype.kind, str(array.dtype))
        raise InvalidInput(f"{what} holds {held}; the model takes {row.name}")
    return _integers(what, array, row) if kind in "ib" else _floats(what, array, row)


def _integers(what: str, array: Array, row: DType) -> Array:
    low, high = row.bounds or (0, 1)
    if array.size:
        least, greatest = int(array.min()), int(array.max())
        if not (low <= least and greatest <= high):
            wrong = shown(least if least < low else greatest)
            raise InvalidInput(f"{what} holds {wrong}; {row.name} is {low}..{high}")
    return array.astype(row.plain).view(row.numpy)


def _floats(what: str, array: Array, row: DType) -> Array:
    held: Array
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a NaN may be a signalling one
            if row is dtypes.BFLOAT16:
                made = dtypes.to_bfloat16(array.astype(np.float32))
                held = dtypes.from_bfloat16(made)
            else:
                held = made = array.astype(row.numpy)
    except OverflowError:  # an integer of Python beyond them all
        raise InvalidInput(f"{what} holds an integer that {row.name} cannot hold") from None
    lost = np.isinf(held)
    if array.dtype.kind in "fc" and lost.any():
        lost &= np.isfinite(array)
    elif array.dtype.kind in "iu":
        lost |= _differ(held.real, array)
    elif array.dtype.kind == "O":
        whole = [int(value) if np.isfinite(value) else None for value in held.real.ravel().tolist()]
        lost |= np.array(whole, object).reshape(array.shape) != array
    if lost.any():
        wrong = array[lost].tolist()[0]
        raise InvalidInput(f"{what} holds {shown(wrong)}, which {row.name} cannot hold")
    return made


def _differ(made: Array, given: Array) -> Array:
    """Where floats are not the integers that they were made of."""
    bits = 8 * given.dtype.itemsize - (given.dtype.kind == "i")
    with np.errstate(invalid="ignore"):
        back = made.astype(given.dtype)  # what is out of range becomes anything
    return np.asarray((back != given) | (made.astype(float) >= 2.0**bits))


# By the kind of what the model takes, the kinds of what may be given; objects are integers of any
# size by then.
_ACCEPTED = {"i": "iubO", "b": "iubO", "f": "fiubO", "c": "cfiubO", "V": ""}


def _bits(array: Array, row: DType) -> Array:
    """The same bits as little-endian ones of the type's own dtype."""
    if array.dtype == row.numpy:
        return array
    if array.dtype.kind == "V" and not array.dtype.names:  # of ml_dtypes
        return np.ascontiguousarray(array).view(row.numpy).reshape(array.shape)
    return array.astype(row.numpy)


def _strings(what: str, value: Any) -> Array:
    array = _array(what, value, object)
    leaves = array.ravel().tolist()
    kinds = set(map(type, leaves))
    if kinds == {bytes}:
        return array
    made = np.empty(len(leaves), object)
    try:
        if kinds == {str}:  # in a third of the time
            made[:] = list(map(str.encode, leaves))
        else:
            made[:] = [_encoded(what, leaf) for leaf in leaves]
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} holds {shown(error.object)}, no valid text") from error
    return made.reshape(array.shape)


def _encoded(what: str, leaf: Any) -> bytes:
    if isinstance(leaf, str):
        return leaf.encode()
    if isinstance(leaf, bytes):
        return bytes(leaf)
    if isinstance(leaf, list | tuple):
        raise _ragged(what)
    raise InvalidInput(f"{what} holds {shown(leaf)}, {typed(leaf)}; expected text or bytes")


def _of_objects(what: str, array: Array) -> Array:
    """Numbers among objects, as in some data frames: floats, or integers that stay objects."""
    for leaf in array.flat:
        if isinstance(leaf, list | tuple):
            raise _ragged(what)
        if not isinstance(leaf, int | float | np.number):
            raise InvalidInput(f"{what} holds {shown(leaf)}, {typed(leaf)}, among its numbers")
    if all(isinstance(leaf, int | np.integer) for leaf in array.flat):
        return array
    try:
        return np.asarray(array.tolist())
    except OverflowError:
        raise InvalidInput(f"{what} holds an integer that is too large for a float") from None


def _listed(aliases: Iterable[str]) -> str:
    *names, last = sorted(aliases) or ["nothing"]
    return f"{', '.join(names)} and {last}" if names else last
