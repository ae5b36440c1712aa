"""Put load on a server and report what happened.

In an open loop a request starts when it is due, whatever became of the ones before, and its latency
counts from when it was due: a server that stalls cannot slow the requests down and so hide the
stall (coordinated omission). A closed loop finds the throughput: each caller asks again as soon as
it is answered.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOT_SENT = "not sent"  # the error of a request that was due while too many were in flight
_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
_STEPS = 10  # histogram buckets from one latency to ten times as much
_SLOTS = 60  # at most so many pieces of time, of at least _PER_SLOT requests on average
_PER_SLOT = 20

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times in seconds from the start."""

    due: float
    sent: float
    done: float
    error: str = ""  # the kind of failure
    text: str = ""  # and its words


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many latencies lay in low_ms <= latency < high_ms."""

    low_ms: float
    high_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Slot:
    """What was done in a piece of the time, which begins at `second`."""

    second: float
    answers_per_second: float
    errors_per_second: float
    p50_ms: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a load. Rates and latencies are of answered requests."""

    asked: float | None  # requests per second; None in a closed loop
    batch: int  # images per request
    seconds: float  # until the last request was done, but no less than was asked for
    requests: int
    answered: int
    requests_per_second: float
    images_per_second: float
    latency_ms: dict[str, float]  # by percentile, p50 to max; empty without an answer
    sent_late_ms: float  # p99 of due to sent; if not small, the asking machine is the bottleneck
    errors: dict[str, int]  # by kind, the most frequent first
    examples: dict[str, str]  # the first error of each kind, in words
    histogram: tuple[Bucket, ...]  # of the latencies, on a logarithmic axis without gaps
    timeline: tuple[Slot, ...]  # equal pieces


def arrivals(rate: float, seconds: float, seed: int | None) -> NDArray[np.float64]:
    """When requests are due, in seconds: at random (Poisson), or without a seed evenly spaced."""
    if seed is None:
        return np.arange(math.ceil(rate * seconds)) / rate
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))


def noise(images: int, seed: int) -> NDArray[np.uint8]:
    """Random images, uint8 (images, 28, 28), with about as much ink as digits have."""
    rng = np.random.default_rng(seed)
    ink = rng.random((images, 28, 28)) < 0.2
    return rng.integers(1, 256, ink.shape, np.uint8) * ink


def batches(images: NDArray[Any] | list[bytes], size: int) -> list[Any]:
    """Cut into requests of `size` images, each image at least once; the first fill up the last."""
    rows = [[i % len(images) for i in range(k, k + size)] for k in range(0, len(images), size)]
    if isinstance(images, list):
        return [[images[i] for i in row] for row in rows]
    return [images[row] for row in rows]


async def open_loop(call: Call, due: Iterable[float], in_flight: int) -> list[Sample]:
    """Call when due (seconds from now); while `in_flight` are unanswered, a call is an error."""
    samples: list[Sample] = []
    running: set[asyncio.Task[None]] = set()
    clock = _clock()
    async with asyncio.TaskGroup() as group:
        for moment in due:
            await asyncio.sleep(max(0.0, moment - clock()))
            if len(running) >= in_flight:
                text = f"{in_flight} requests were in flight"
                samples.append(Sample(moment, clock(), clock(), NOT_SENT, text))
                continue
            task = group.create_task(_ask(call, clock, moment, samples))
            running.add(task)
            task.add_done_callback(running.discard)
    return samples


async def closed_loop(call: Call, callers: int, seconds: float) -> list[Sample]:
    """Let some callers ask for some seconds, each one request at a time."""
    samples: list[Sample] = []
    clock = _clock()

    async def caller() -> None:
        while (now := clock()) < seconds:
            await _ask(call, clock, now, samples)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return samples


def _clock() -> Callable[[], float]:
    time = asyncio.get_running_loop().time
    start = time()
    return lambda: time() - start


async def _ask(call: Call, clock: Callable[[], float], due: float, samples: list[Sample]) -> None:
    sent, error, text = clock(), "", ""
    try:
        await call()
    except Exception as failure:
        error, text = type(failure).__name__, str(failure)
    samples.append(Sample(due, sent, clock(), error, text))


def report(
    samples: Sequence[Sample], *, seconds: float, batch: int, asked: float | None = None
) -> Report:
    """Sum up a run that was asked to last some seconds."""
    seconds = max([seconds, *(sample.done for sample in samples)])
    latencies = 1e3 * np.array([s.done - s.due for s in samples if not s.error])
    late = 1e3 * np.array([s.sent - s.due for s in samples] or [0.0])
    answered = len(latencies)
    errors = Counter(s.error for s in samples if s.error).most_common()
    first = {s.error: s.text for s in reversed(samples)}
    return Report(
        asked=asked,
        batch=batch,
        seconds=seconds,
        requests=len(samples),
        answered=answered,
        requests_per_second=answered / seconds,
        images_per_second=answered * batch / seconds,
        latency_ms={k: _percentile(latencies, p) for k, p in _PERCENTILES.items() if answered},
        sent_late_ms=_percentile(late, 99),
        errors=dict(errors),
        examples={kind: first[kind] for kind, _ in errors},
        histogram=_histogram(latencies),
        timeline=_timeline(samples, seconds),
    )


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent, method="inverted_cdf"))  # one that was measured


def _histogram(latencies: NDArray[np.float64]) -> tuple[Bucket, ...]:
    if not len(latencies):
        return ()
    steps = np.floor(np.log10(np.maximum(latencies, 1e-3)) * _STEPS).astype(int)
    first = steps.min()
    counts = np.bincount(steps - first).tolist()
    edges = (10 ** (np.arange(first, first + len(counts) + 1) / _STEPS)).tolist()
    return tuple(map(Bucket, edges, edges[1:], counts))


def _timeline(samples: Sequence[Sample], seconds: float) -> tuple[Slot, ...]:
    slots = max(1, min(_SLOTS, len(samples) // _PER_SLOT))
    width = seconds / slots
    rows: list[list[Sample]] = [[] for _ in range(slots)]
    for sample in samples:
        rows[min(slots - 1, int(sample.done / width))].append(sample)
    timeline = []
    for i, row in enumerate(rows):
        latencies = [(s.done - s.due) * 1e3 for s in row if not s.error]
        answers, p50 = len(latencies), float(np.median(latencies)) if latencies else None
        timeline.append(Slot(i * width, answers / width, (len(row) - answers) / width, p50))
    return tuple(timeline)
