"""JSON as the real server writes it: RapidJSON's pretty layout and its own number printing.

Text is a tree of lists, `Members` (objects) and leaves. Bytes that are not UTF-8 stand as
lone surrogates (`surrogateescape`) and leave the server as they are.
"""

import json
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from deploy.local.tensors import Array

DUMP_BYTES = 256
_ULP = Fraction(1, 2**63)

_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): "\\" + short for char, short in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class Members(list[tuple[str, Any]]):
    """A JSON object as its members in order, repeated names included."""

    def get(self, name: str) -> Any:
        """The value of the first member of this name; KeyError without one."""
        for key, value in self:
            if key == name:
                return value
        raise KeyError(name)

    def names(self) -> set[str]:
        """All names."""
        return {key for key, _ in self}


def quote(text: str) -> str:
    """A JSON string."""
    return f'"{text.translate(_ESCAPES)}"'


def as_is(leaf: str) -> str:
    """For trees whose leaves are JSON text already."""
    return leaf


def layout(
    node: Any, leaf: Callable[[Any], str] = as_is, *, flat: bool = False, level: int = 0
) -> Iterator[str]:
    """The pieces of a tree's text, indented by four blanks.

    Args:
        node: lists, Members and leaves.
        leaf: turns a leaf into JSON text.
        flat: lists stand on one line; objects in them still spread over several.
        level: depth of the node in the whole text.
    """
    if not isinstance(node, list):
        yield leaf(node)
        return
    is_object = isinstance(node, Members)
    opening, closing = "{}" if is_object else "[]"
    if flat and not is_object and leaf is as_is and set(map(type, node)) == {str}:
        yield f"[{', '.join(node)}]"  # the bulk of a large answer, in one go
        return
    one_line = flat and not is_object
    outer = "" if one_line or not node else "\n" + "    " * level
    inner = "" if one_line else "\n" + "    " * (level + 1)
    yield opening
    for index, item in enumerate(node):
        yield ("," + (inner or " ") if index else inner)
        if is_object:
            yield quote(item[0]) + ": "
            item = item[1]
        yield from layout(item, leaf, flat=flat, level=level + 1)
    yield outer + closing


def dump(value: Any) -> str:
    """A parsed value as error messages show it, broken off after some 256 bytes."""
    text = ""
    for piece in layout(value, _dump_leaf, flat=True):
        text += piece
        if len(text.encode()) >= DUMP_BYTES:
            break
    return text


def _dump_leaf(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    return double(value) if isinstance(value, float) else json.dumps(value)


def double(value: float) -> str:
    """A double in RapidJSON's own way: no exponent up to 21 digits, then `1e21`."""
    if not math.isfinite(value):
        return _SPECIAL[repr(value)]
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not value:
        return sign + "0.0"
    digits, exponent = _shortest(abs(value))
    point = len(digits) + exponent  # digits before the decimal point
    if exponent >= 0 and point <= 21:
        return f"{sign}{digits}{'0' * exponent}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"


def _shortest(value: float) -> tuple[str, int]:
    """Fewest digits that read back as a positive number, and the exponent of the last one.

    This is Grisu2 as RapidJSON 1.1 has it, which differs from `repr` in one respect: of
    several shortest texts for a number with many digits it takes the largest.
    """
    bound_exponent = math.frexp(value)[1] - 64
    step = math.ceil((-61 - bound_exponent) * 0.30102999566398114 + 347)
    power = -348 + 8 * ((step >> 3) + 1)
    exact, scale = Fraction(value), Fraction(10) ** power
    # The 64-bit arithmetic of the original leaves out the bounds themselves.
    high = (exact + Fraction(math.ulp(value)) / 2) * scale * (1 - _ULP)
    low = (exact + Fraction(math.nextafter(value, 0))) / 2 * scale * (1 + _ULP)
    last = len(str(int(high))) - 1
    while high % Fraction(10) ** last >= high - low:
        last -= 1
    unit = Fraction(10) ** last
    digits = high // unit
    if last > -9:  # RapidJSON's table of powers ends here, and with it the rounding
        while digits * unit - unit > low and abs((digits - 1) * unit - exact * scale) < abs(
            digits * unit - exact * scale
        ):
            digits -= 1
    return str(digits), last - power


def floats(array: Array) -> list[str]:
    """float32 or float64 numbers as text: `%g`, or all digits where that is not the number.

    Subnormal numbers are zeros, as in the real server, whose threads flush them.
    """
    flat = flush(array.ravel())
    values = flat.tolist()
    texts = (("%.6g " * len(values)) % tuple(values)).split()
    exact = "%.9g" if flat.dtype == np.float32 else "%.17g"
    with np.errstate(over="ignore"):
        parsed = np.array(texts, np.float64).astype(flat.dtype)
    for index in np.flatnonzero(parsed != flat).tolist():
        texts[index] = exact % values[index]
    return [
        text if "." in text or "e" in text else _SPECIAL.get(text) or text + ".0" for text in texts
    ]


def flush(array: Array) -> Array:
    """The array with subnormal numbers replaced by zeros of the same sign."""
    subnormal = np.abs(array) < np.finfo(array.dtype).tiny
    return np.where(subnormal, np.copysign(array.dtype.type(0), array), array)
