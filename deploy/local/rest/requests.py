"""Bodies of REST requests to arrays.

Large well-formed tensors are quick: values are checked and converted level by level, in
bulk. Only when that fails is the value walked again, element by element in document
order, to find what the real server would have complained about.
"""

import base64
import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import rapidjson
from tensorflow.core.framework import types_pb2

from deploy.local.errors import Code, ServingError, invalid
from deploy.local.rest import json_text
from deploy.local.rest.json_text import Members, dump
from deploy.local.tensors import DTYPES, MAX_RANK, Array

_BOM = b"\xef\xbb\xbf"
_B64 = "b64"
_NO_BLANKS = dict.fromkeys(map(ord, " \t\n\v\f\r"))


# Parsing


class _Decoder(rapidjson.Decoder):
    def start_object(self) -> Members:
        return Members()


_decode = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)
_PREFIX = "Parse error at offset "
_ODD = re.compile("[\udc80-\udcff]")
_TOO_BIG = "Number too big to be stored in double."
_MOST = np.finfo(np.float64).max
_NUMBER = re.compile(rb"(-?)(\d+)(?:\.(\d+))?(?:[eE]\+?(\d+))?")
_AFTER_ROOT = "The document root must not be followed by other values."
# Texts of the RapidJSON below us that differ from those of the real server's.
_OLDER_TEXTS = {"Invalid encoding in string.": "Invalid escape character in string."}


def parse(body: bytes) -> Members:
    """A request's body; what follows the object is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT with RapidJSON's reason and offset, or no object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    start = len(_BOM) if body.startswith(_BOM) else 0
    value = _parse(body[start:], start)
    if not isinstance(value, Members):
        raise invalid(f"JSON Value: {dump(value)} Is not object")
    return value


def _parse(text: bytes, start: int) -> Any:
    try:
        return _decode(text)
    except rapidjson.JSONDecodeError as error:
        offset, reason = error.args[0].removeprefix(_PREFIX).split(": ", 1)
        if reason == _AFTER_ROOT:
            return _parse(text[: int(offset)], start)
        if reason == _TOO_BIG and (cleared := _with_infinity(text, int(offset))):
            return _parse(cleared, start)
        reason = _OLDER_TEXTS.get(reason, reason)
        where = start + int(offset)
    except UnicodeDecodeError as error:
        # Faults of syntax come first; the real server hands odd bytes in strings on, we do not.
        _parse(_ODD.sub("\x7f", text.decode("utf-8", "surrogateescape")).encode(), start)
        reason, where = "Invalid encoding in string.", start + error.start
    except RecursionError:
        reason, where = "Terminate parsing due to Handler error.", start
    raise invalid(f"JSON Parse error: {reason} at offset: {where}") from None


def _with_infinity(text: bytes, offset: int) -> bytes | None:
    """The text with an infinity for the number at the offset, if the real server takes it for one.

    Its RapidJSON, 1.1.0, refuses what has too many digits or too large an exponent, but does not
    look at what comes of both (`ParseNumber` in reader.h).
    """
    number = _NUMBER.match(text, offset)
    if number is None:
        return None
    sign, whole, fraction, exponent = number.groups(default=b"")
    # Of all digits 17 count; of each of the fraction's the exponent may be one larger.
    counted = len(fraction) - max(0, len((whole + fraction).lstrip(b"0")) - 17)
    is_refused = float(whole[:-1] or 0) >= _MOST / 10 or (
        len(exponent) > 1 and float(exponent) > 308 + max(0, counted)
    )
    if is_refused:
        return None
    return text[:offset] + (sign + b"Inf").ljust(len(number[0])) + text[number.end() :]


# One value to one array


class _Accepts(NamedTuple):
    """What a type takes from JSON: kinds of leaves, and bounds of integers."""

    kinds: frozenset[type]
    low: int = 0
    high: int = 0


_NUMBERS = _Accepts(frozenset({int, float}))
_INT32 = _Accepts(frozenset({int}), -(2**31), 2**31 - 1)
_ACCEPTS = {
    types_pb2.DT_FLOAT: _NUMBERS,
    types_pb2.DT_DOUBLE: _NUMBERS,
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: _Accepts(frozenset({int}), -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: _Accepts(frozenset({int}), 0, 2**32 - 1),
    types_pb2.DT_UINT64: _Accepts(frozenset({int}), 0, 2**64 - 1),
    types_pb2.DT_BOOL: _Accepts(frozenset({bool})),
    types_pb2.DT_STRING: _Accepts(frozenset({str, Members})),
}
_TYPE_NAMES = {
    type(None): "Null", bool: "", int: "Number", float: "Number", str: "String",
    list: "Array", Members: "Object",
}  # fmt: skip


def to_array(value: Any, dtype: int) -> Array:
    """A JSON value as an array of a TensorFlow type, shaped as its first elements are.

    Raises:
        ServingError: ragged lists, a leaf that the type does not take, an unsupported type.
    """
    shape = _shape(value)
    leaves = _leaves(value, shape)
    if leaves is None or not _acceptable(leaves, dtype):
        _complain(value, 0, shape, dtype)
    return _from_leaves(leaves, dtype).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    shape: list[int] = []
    while type(value) is list:
        if len(shape) == MAX_RANK:
            raise invalid(f"Lists are nested deeper than {MAX_RANK} levels")
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _leaves(value: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """All values at the innermost level, or None if the lists are not of this shape."""
    level = [value]
    for size in shape:
        if set(map(type, level)) - {list} or set(map(len, level)) - {size}:
            return None
        level = list(itertools.chain.from_iterable(level))
    return None if list in set(map(type, level)) else level


def _acceptable(leaves: list[Any], dtype: int) -> bool:
    accepts = _ACCEPTS.get(dtype)
    if not leaves or accepts is None:
        return not leaves
    if set(map(type, leaves)) - accepts.kinds:
        return False
    return not accepts.high or (accepts.low <= min(leaves) and max(leaves) <= accepts.high)


def _from_leaves(leaves: list[Any], dtype: int) -> Array:
    wanted = DTYPES[dtype].numpy
    if dtype == types_pb2.DT_STRING:
        strings = np.empty(len(leaves), object)
        for index, leaf in enumerate(leaves):
            strings[index] = leaf.encode() if isinstance(leaf, str) else unbase64(leaf)
        return strings
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            return json_text.flush(np.array(leaves, np.float64).astype(wanted))
    if _ACCEPTS.get(dtype) is _INT32:
        return np.array(leaves, np.int64).astype(wanted)
    return np.array(leaves, wanted)


def _complain(value: Any, level: int, shape: tuple[int, ...], dtype: int) -> NoReturn:
    """Raise the first fault in document order; there is one."""
    _find_fault(value, level, shape, dtype)
    raise AssertionError(f"no fault found in {dump(value)}")


def _find_fault(value: Any, level: int, shape: tuple[int, ...], dtype: int) -> None:
    rank = len(shape)
    if type(value) is list:
        if level >= rank:
            raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level}"
                f" expected size: {shape[level]}"
            )
        for item in value:
            _find_fault(item, level + 1, shape, dtype)
        return
    if level != rank:
        raise invalid(
            f"JSON Value: {dump(value)} found at incorrect level: {level + 1} in the JSON DOM."
            f" Expected at level: {rank}"
        )
    if type(value) is Members and dtype == types_pb2.DT_STRING:
        unbase64(value)
    elif dtype not in _ACCEPTS and type(value) is not Members:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {dump(value)} to type: {DTYPES[dtype].name}",
        )
    elif not _acceptable([value], dtype):
        raise invalid(
            f"JSON Value: {dump(value)} Type: {type_name(value)} is not of expected type:"
            f" {DTYPES[dtype].name}"
        )


def type_name(value: Any) -> str:
    """The JSON type of a parsed value as messages call it."""
    return _TYPE_NAMES[type(value)] or str(value)


def is_base64(value: Any) -> bool:
    """Whether a parsed value is `{"b64": text}` and nothing else."""
    return (
        type(value) is Members
        and len(value) == 1
        and value[0][0] == _B64
        and isinstance(value[0][1], str)
    )


def unbase64(value: Members) -> bytes:
    """The bytes of `{"b64": text}`; padding, of `=` or `.`, may lack; blanks are skipped."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {dump(value)} not formatted correctly for base64 data")
    text = value[0][1].translate(_NO_BLANKS)
    data = text.rstrip("=.")
    padding = len(text) - len(data)
    if padding in (0, -len(data) % 4) and len(data) % 4 != 1:
        try:
            return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
        except ValueError:
            pass
    raise invalid("Unable to base64 decode")


# Requests


class PredictBody(NamedTuple):
    """A predict request's body.

    Attributes:
        signature_name: empty when the body has none.
        document: the whole object.
    """

    signature_name: str
    document: Members

    def inputs(self, infos: Mapping[str, Any]) -> tuple[dict[str, Array], bool]:
        """The tensors by alias, and whether they came row by row.

        Args:
            infos: TensorInfo by alias, as the signature has it.

        Raises:
            ServingError: INVALID_ARGUMENT or UNIMPLEMENTED with the server's text.
        """
        if not infos:
            name = self.signature_name or "DEFAULT"
            raise invalid(f"Failed to get input map for signature: {name}")
        keys = self.document.names() & {"instances", "inputs"}
        if not keys:
            raise invalid("Missing 'inputs' or 'instances' key")
        if len(keys) == 2:
            self._refuse(
                "Not formatted correctly expecting only one of 'inputs' or 'instances'"
                " keys to exist "
            )
        if keys == {"inputs"}:
            return _from_columns(self.document.get("inputs"), infos), False
        rows = self.document.get("instances")
        if type(rows) is not list:
            self._refuse("Expecting 'instances' to be an list/array")
        if not rows:
            self._refuse("No values in 'instances' array")
        return _from_rows(rows, infos), True

    def _refuse(self, why: str) -> NoReturn:
        raise invalid(f"JSON Value: {dump(self.document)} {why}")


def read_predict(body: bytes) -> PredictBody:
    """Parse a predict request as far as that goes without knowing the model.

    Raises:
        ServingError: INVALID_ARGUMENT with the server's text.
    """
    document = parse(body)
    return PredictBody(signature_name(document), document)


def signature_name(document: Members) -> str:
    """The signature that a body asks for; empty when it names none.

    Raises:
        ServingError: INVALID_ARGUMENT if the name is no string.
    """
    if "signature_name" not in document.names():
        return ""
    name = document.get("signature_name")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {dump(document)} not formatted correctly."
            " 'signature_name' key must be a string value."
        )
    return name


def _from_columns(value: Any, infos: Mapping[str, Any]) -> dict[str, Array]:
    if type(value) is not Members or is_base64(value):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        value = Members((alias, value) for alias in infos)
    arrays = {}
    for alias, info in sorted(infos.items()):
        if alias not in value.names():
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = to_array(value.get(alias), info.dtype)
    return arrays


def _is_named(row: Any) -> bool:
    return type(row) is Members and not is_base64(row)


def _from_rows(rows: list[Any], infos: Mapping[str, Any]) -> dict[str, Array]:
    if len(infos) > 1 and type(rows[0]) is not Members:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    named = _is_named(rows[0])
    try:
        if any(_is_named(row) is not named for row in rows):
            raise invalid("mixed")
        if not named:
            alias = next(iter(infos))
            return {alias: to_array(rows, infos[alias].dtype)}
        if any(row.names() != infos.keys() for row in rows):
            raise invalid("names")
        if any(len(row) > len(infos) for row in rows):
            return _row_by_row(rows, named, infos)
        return {
            alias: to_array([row.get(alias) for row in rows], info.dtype)
            for alias, info in sorted(infos.items())
        }
    except (ServingError, ValueError):
        _row_by_row(rows, named, infos)
        raise


def _row_by_row(rows: list[Any], named: bool, infos: Mapping[str, Any]) -> dict[str, Array]:
    """As the real server does it: the first fault in document order, a name's every value.

    A name that a row has twice gives two values, and what is left over in the end is dropped.
    """
    seen: dict[str, list[Array]] = {}
    for index, row in enumerate(rows):
        if named and not _is_named(row):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        if not named and _is_named(row):
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
        where = f"Failed to process element: {index}"
        for alias, value in row if named else [(next(iter(infos)), row)]:
            try:
                _add_instance(alias, value, infos, seen)
            except ServingError as error:
                key = f" key: {alias}" if named else ""
                raise invalid(f"{where}{key} of 'instances' list. Error: {error}") from None
        if named and row.names() != infos.keys():
            raise invalid(
                f"{where} of 'instances' list. JSON object: {dump(row)} keys must be equal to:"
                f" {','.join(sorted(infos))}"
            )
    return {alias: np.stack(values[: len(rows)]) for alias, values in sorted(seen.items())}


def _add_instance(
    alias: str, value: Any, infos: Mapping[str, Any], seen: dict[str, list[Array]]
) -> None:
    if alias not in infos:
        raise invalid(f"JSON object: does not have named input: {alias}")
    array = to_array(value, infos[alias].dtype)
    first = seen.setdefault(alias, [array])[0]
    if array.size != first.size:
        raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
    if array.shape != first.shape:
        raise invalid(f"Expecting shape {_sizes(first)} but got: {_sizes(array)}")
    if array is not first:
        seen[alias].append(array)


def _sizes(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"
