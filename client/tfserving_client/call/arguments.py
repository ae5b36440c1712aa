"""Refusals of arguments: a wrong type would otherwise fail late, or silently.

Callers may not use a type checker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from tfserving_client.errors import InvalidInput

_LONGEST = 1e6  # seconds; more overflows the clocks of gRPC and sockets
_HEADER = re.compile(r"[a-z0-9_.-]+")  # gRPC takes lower case only; HTTP does not mind
# Said by the protocols themselves.
_RESERVED = {"connection", "content-length", "content-type", "host", "te", "transfer-encoding"}
_LONGEST_SHOWN = 100  # characters


def checked_seconds(name: str, seconds: Any, *, zero: bool = False) -> float:
    """A duration above zero, or from zero where `zero` is allowed."""
    if not (_is_real(seconds) and (0 < seconds <= _LONGEST or (zero and seconds == 0))):
        least = "0 or more" if zero else "more than 0"
        raise InvalidInput(
            f"{name} is {shown(seconds)}; expected seconds, {least} and at most {_LONGEST:g}"
        )
    return float(seconds)


def checked_share(name: str, share: Any) -> float:
    """A number from 0 to 1."""
    if not (_is_real(share) and 0 <= share <= 1):
        raise InvalidInput(f"{name} is {shown(share)}; expected a share in 0..1")
    return float(share)


def checked_count(name: str, count: Any) -> int:
    """An integer of at least 1."""
    if not (_is_integer(count) and count >= 1):
        raise InvalidInput(f"{name} is {shown(count)}; expected an integer, 1 or more")
    return int(count)


def checked_version(version: Any) -> int:
    """A model version that TensorFlow Serving can have."""
    if not (_is_integer(version) and 0 < version < 2**63):
        raise InvalidInput(f"version is {shown(version)}; expected a positive 64-bit integer")
    return int(version)


def checked_name(what: str, name: Any) -> str:
    """A model's name or a label."""
    if not (isinstance(name, str) and name and name.isprintable()):
        raise InvalidInput(f"{what} is {shown(name)}; expected a name")
    return name


class Headers(dict[str, str]):
    """What is sent with a request. Keys are among it, so the values are not shown."""

    def __repr__(self) -> str:
        """The names alone."""
        return f"Headers({', '.join(self)})"


def checked_headers(headers: Any) -> Headers:
    """Headers that both HTTP and gRPC metadata can carry; values are not shown in errors."""
    if not isinstance(headers, Mapping):
        raise InvalidInput(f"headers are {typed(headers)}; expected a mapping")
    for name, value in headers.items():
        if not (isinstance(name, str) and _HEADER.fullmatch(name)) or name.endswith("-bin"):
            raise InvalidInput(f"header name is {shown(name)}; expected a-z, 0-9, '_', '.', '-'")
        if name in _RESERVED or name.startswith("grpc-"):
            raise InvalidInput(f"header name is {name!r}, which the protocol itself sets")
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise InvalidInput(f"the value of header {name!r} is not text in printable ASCII")
        if value != value.strip():
            raise InvalidInput(f"the value of header {name!r} has blanks around it")
    return Headers(headers)


def shown(value: Any) -> str:
    """A refused value in a message: on one line and in short, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # its own __repr__, or an integer with more digits than Python prints
        return f"{typed(value)} that cannot be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def typed(value: Any) -> str:
    """What a refused value is: "a list", "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
