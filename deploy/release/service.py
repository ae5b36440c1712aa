"""The service times of one replica: measured by `tune`, stored for `capacity` in a file."""

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
    """Times and limit of one replica, and what was measured.

    Attributes:
        p50_ms: of a request of one row without other requests, at the caller.
        p99_ms: as p50_ms.
        requests_per_second: the highest throughput, at any latency.
        batch_rows: requests that one batch holds at that rate, on average; 1 without batching.
        batch_ms: p50 of a request of so many rows without other requests.
        cores: of the server, shared with the load generator.
        request_bytes: of a request and its answer, without overhead of gRPC and TCP; 0 if unknown.
        of: what was measured, as text.
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
    """Store the measurements of a model, replacing older ones; returns the file."""
    path = _path(model)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(service), indent=2) + "\n")
    return path


def read(model: str) -> Service:
    """The last measurements of a model.

    Raises:
        Unreadable: there are none, or the file is not as `write` makes it.
    """
    path = _path(model)
    try:
        found = Service(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise Unreadable(
            f"there are no measurements of {model} on this machine: run `python -m deploy tune "
            f"--name {model}`, or give --service-ms"
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
