"""What one replica can do: measured by `tune`, kept for `capacity` in a file of this machine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from deploy import FOLDER
from deploy.release.errors import Unreadable

MEASURED = FOLDER / "machine" / "measured"  # a file for each model


@dataclass(frozen=True, slots=True)
class Service:
    """One replica's times and its limit, and what they were measured of.

    Attributes:
        p50_ms: of a request of one row that no other delays, at the caller.
        p99_ms: of the same.
        requests_per_second: the most that it answers, whatever they wait for it.
        batch_rows: requests that one batch holds at that rate, on average; 1 without batching.
        batch_ms: p50 of a request of so many rows that no other delays.
        cores: that the server had, shared with what asked it.
        request_bytes: of a request and its answer, without what gRPC and TCP put around them; 0 if
            that is not known.
        of: what was measured, in words.
    """

    p50_ms: float
    p99_ms: float
    requests_per_second: float
    batch_rows: int
    batch_ms: float
    cores: int
    request_bytes: int
    of: str


def write(model: str, service: Service) -> Path:
    """Keep what was measured of a model, in place of what was before; returns the file."""
    path = _path(model)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(service), indent=2) + "\n")
    return path


def read(model: str) -> Service:
    """What was measured of a model last.

    Raises:
        Unreadable: nothing was, or the file is not as `write` makes it.
    """
    path = _path(model)
    try:
        found = Service(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise Unreadable(
            f"nothing was measured of {model} on this machine: `python -m deploy tune --name "
            f"{model}` does so; or tell it by --service-ms"
        ) from None
    except (ValueError, TypeError) as error:
        raise Unreadable(f"{path} is not what `python -m deploy tune` writes: {error}") from None
    for field in fields(Service):
        value = getattr(found, field.name)
        if field.name == "of":
            continue
        if type(value) not in (int, float) or not (0 < value < math.inf):
            raise Unreadable(f"{path}: {field.name} is {value!r}; expected a number above 0")
    if found.p99_ms < found.p50_ms or found.batch_ms < found.p50_ms:
        raise Unreadable(f"{path}: p99_ms and batch_ms have to be at least p50_ms")
    return found


def _path(model: str) -> Path:
    return MEASURED / f"{model}.json"
