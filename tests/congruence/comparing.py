"""Holds an answer against the expected one.

An answer over REST is {status, type, body} and perhaps headers; over gRPC {code} with a message
(as protobuf JSON) or details. How the body or the details are compared:

how          equal means
None         JSON of a 200 and messages: as values, floats within 1e-6, and the JSON also laid out
             alike, the order of keys apart; all else as `text`
`json`       as JSON values, floats within 1e-6
`numbers`    as JSON values, numbers as they are written
`exact`      a message whose floats are the same bit for bit; details as `text`
`text`       every character
`prefix`     starts with the expected text
`contains`   holds the expected text
`words`      the same words in any order, for what the server prints of a hash map
`pattern`    the expected text is a regular expression for the whole
`any`        only the code or status, and the type
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

Answer = dict[str, Any]
TOLERANCE = 1e-6

_WORD = re.compile(r"[\w.+/:-]+")
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "text": lambda want, got: got == want,
    "prefix": lambda want, got: got.startswith(want),
    "contains": lambda want, got: want in got,
    "words": lambda want, got: sorted(_WORD.findall(got)) == sorted(_WORD.findall(want)),
    "pattern": lambda want, got: re.fullmatch(want, got, re.DOTALL) is not None,
    "any": lambda _want, _got: True,
}
# TensorFlow ends a text with the names of the nodes that failed; these are no part of a contract.
_NODES = re.compile(r"(\s|\\n\\t )*\[\[\{\{(function_)?node.*", re.DOTALL)
# Before a message that it prints, protobuf puts a word that each process draws by lot, since 2.21.
_DRAWN = re.compile(r"goo\.gle/debug(?:only|str|proto) *(?:\\n|\n)")
# The pictures that TensorFlow reads: of 2.21, and of 2.20.
_PICTURES = "JPEG, JPEG XL, PNG", "JPEG, PNG"
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)')
_NUMBERS = ("parse_float", "parse_int", "parse_constant")
_FLOAT = re.compile(r"-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)")


class Written(str):
    """A JSON number as it is written."""

    __slots__ = ()


def difference(want: Answer, got: Answer, how: str | None = None) -> str | None:
    """What differs first, in words, or None."""
    for key in ("status", "type", "headers", "code"):
        if key in want and want[key] != got.get(key):
            return f"{key}: {got.get(key)!r} instead of {want[key]!r}"
    if "message" in want:
        return _values(want["message"], _without_nodes(got["message"]), how == "exact", "message")
    part = "body" if "body" in want else "details"
    if how is None and want.get("status") == 200 and want["body"]:
        return _json(want["body"], got["body"]) or _layouts(want["body"], got["body"])
    if how in ("json", "numbers"):
        return _json(want["body"], got["body"], how == "numbers")
    how = how if how in _TEXTS else "text"
    alike = _TEXTS[how](_of_any_release(want[part] or ""), _of_any_release(got[part] or ""))
    return None if alike else f"the {part} is another (compared as {how})"


def _json(want: str, got: str, written: bool = False) -> str | None:
    kinds: dict[str, Any] = dict.fromkeys(_NUMBERS, Written) if written else {}
    try:
        parsed = json.loads(got, **kinds)
    except ValueError as error:
        return f"body is no JSON: {error}"
    return _values(json.loads(want, **kinds), parsed, written, "body")


def _values(want: Any, got: Any, exact: bool, where: str) -> str | None:
    if isinstance(want, dict) and isinstance(got, dict):
        if want.keys() != got.keys():
            return f"{where}: keys {sorted(got)} instead of {sorted(want)}"
        inner = ((want[key], got[key], f"{where}.{key}") for key in want)
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            return f"{where}: {len(got)} items instead of {len(want)}"
        inner = ((w, g, f"{where}[{i}]") for i, (w, g) in enumerate(zip(want, got, strict=True)))
    else:
        return None if _same(want, got, exact) else f"{where}: {got!r} instead of {want!r}"
    differences = (_values(w, g, exact, place) for w, g, place in inner)
    return next((each for each in differences if each), None)


def _same(want: Any, got: Any, exact: bool) -> bool:
    numbers = {type(want), type(got)} <= {int, float} and float in (type(want), type(got))
    if exact or not numbers:
        return type(want) is type(got) and repr(want) == repr(got)
    if math.isnan(want) or math.isnan(got):
        return math.isnan(want) and math.isnan(got)
    return math.isclose(want, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _of_any_release(text: str) -> str:
    return _DRAWN.sub("", text).replace(*_PICTURES)


def _without_nodes(value: Any) -> Any:
    if isinstance(value, str):
        return _NODES.sub("", value)
    if isinstance(value, list):
        return [_without_nodes(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nodes(item) for key, item in value.items()}
    return value


def _layouts(want: str, got: str) -> str | None:
    """Where blanks and line ends differ, in texts of equal values."""
    lines = zip_longest(*(layout(text).splitlines(keepends=True) for text in (want, got)))
    for number, (wanted, found) in enumerate(lines, 1):
        if wanted != found:
            return f"body, line {number} with keys sorted: {found!r} instead of {wanted!r}"
    return None


def layout(text: str) -> str:
    """JSON as written, but the members of objects sorted and every float a 0.0."""
    tokens = ((match[0], match[1]) for match in _TOKEN.finditer(text))
    end = text[len(text.rstrip()) :]
    return _laid_out(*next(tokens), tokens) + end


def _laid_out(written: str, token: str, tokens: Iterator[tuple[str, str]]) -> str:
    """The layout of the value that starts with `token`, which is `written` with blanks before."""
    if token not in ("{", "["):
        return written[: -len(token)] + "0.0" if _FLOAT.fullmatch(token) else written
    members, commas = [], []
    while True:
        before, inner = next(tokens)
        if inner in ("}", "]"):
            break
        if inner == ",":
            commas.append(before)
            continue
        if token == "{":
            colon, _ = next(tokens)
            members.append(before + colon + _laid_out(*next(tokens), tokens))
        else:
            members.append(_laid_out(before, inner, tokens))
    if token == "{":
        members.sort()
    between = (text for pair in zip_longest(members, commas, fillvalue="") for text in pair)
    return written + "".join(between) + before
