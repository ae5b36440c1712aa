"""How a difference is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ENOUGH = 1500  # characters of a request or an answer


def told(what: str, request: Mapping[str, Any], want: Mapping[str, Any], got: Any) -> str:
    """The difference in words, then the request and both answers, as a person reads them."""
    parts = {"request": request, "expected": want, "got": got}
    return "\n".join([what, *(f"--- {name}\n{_shown(part)}" for name, part in parts.items())])


def _shown(part: Mapping[str, Any]) -> str:
    """Texts stand as they are, with their line ends; the rest as JSON."""
    texts = {key: part[key] for key in ("body", "details") if isinstance(part.get(key), str)}
    others = {key: value for key, value in part.items() if key not in texts}
    lines = [f"{key}: {_inline(value)}" for key, value in others.items()]
    lines += [f"{key}:\n{text}" for key, text in texts.items()]
    shown = "\n".join(lines)
    cut = len(shown) - _ENOUGH
    return shown if cut <= 0 else f"{shown[:_ENOUGH]}… ({cut} more characters)"


def _inline(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
