"""What a call has to have done for it, one step after the other. A client does the steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from tfserving_client.call.arguments import Headers
from tfserving_client.call.exchange import Exchange


class Send(NamedTuple):
    """Carry one exchange to one server."""

    endpoint: int
    exchange: Exchange[Any]
    timeout: float
    headers: Headers


class Hedge(NamedTuple):
    """Carry `first`; after `delay` seconds without an answer also `second`, if `allowed`."""

    first: Send
    second: Send
    delay: float
    allowed: Callable[[], bool]


class Wait(NamedTuple):
    """Do nothing for some seconds."""

    seconds: float


class Park(NamedTuple):
    """Wait until the gate is released, or for some seconds."""

    gate: Any
    seconds: float


class Meet(NamedTuple):
    """Tell where the caller may meet others: a `coalescing.Meeting`."""


Step = Send | Hedge | Wait | Park | Meet
Result = TypeVar("Result")
Call = Generator[Step, Any, Result]
