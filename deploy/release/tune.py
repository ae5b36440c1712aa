"""Find the batching parameters with the highest throughput within a latency, if any.

Each setting is measured on a separate server, with an open loop of requests of one golden row over
gRPC. Then the best of a sweep, the server's defaults and the shipped settings are measured in turn,
and the best has to be better than both by more than chance. For the chosen setting, the latency of
a single request and the highest throughput are measured: `capacity` plans with these.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy import runner
from deploy.release import golden, measures
from deploy.release.load import Probe, Request, generator
from deploy.release.service import Service
from tfserving_client import ServingClient
from tfserving_client.errors import CallContext
from tfserving_client.serving.protocols import wire
from tfserving_client.tensors.conversion import conformed

_SHIPPED = Path(__file__).parents[1] / "server" / "batching.config"
MARGIN = 1.05  # times the rate of the baselines, to be better by more than chance
_TRIES = 2  # attempts at a rate that does not hold: other work may have disturbed it
_ROUNDS = 3  # of what is compared, by turns
_STEP, _HALVINGS = 1.5, 2  # factor from one rate to the next; then between the last two
_FIRST, _LOWEST, _HIGHEST = 200.0, 5.0, 200_000.0  # requests a second
_REQUESTS = 100  # different requests, at most
_CALLERS = 128  # open requests for the highest throughput: two of the largest batches
_CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Batching:
    """The swept parameters: rows of a batch, µs that it waits, parallel and queued batches."""

    rows: int = 64
    timeout: int = 0
    threads: int = _CPUS
    queue: int = 512

    def __str__(self) -> str:
        """The name in the table."""
        return f"rows {self.rows}, µs {self.timeout}, threads {self.threads}, queue {self.queue}"

    def text(self) -> str:
        """As a text proto; a request may have half of the rows of the queue."""
        return (
            f"max_batch_size {{ value: {self.rows * max(1, self.queue // 2)} }}\n"
            "enable_large_batch_splitting { value: true }\n"
            f"max_execution_batch_size {{ value: {self.rows} }}\n"
            f"batch_timeout_micros {{ value: {self.timeout} }}\n"
            f"num_batch_threads {{ value: {self.threads} }}\n"
            f"max_enqueued_batches {{ value: {self.queue} }}\n"
        )


# Each parameter in turn, starting from the best values of those before.
SWEPT: Mapping[str, Sequence[int]] = {
    "rows": (16, 256),
    "timeout": (500, 2_000),
    "threads": (1, 2 * _CPUS),
    "queue": (128,),
}


@dataclass(slots=True)
class Setting:
    """A setting and its measurements.

    Attributes:
        name: in the table.
        text: its BatchingParameters; "" for none, and no batching.
        probes: all measurements.
        found: the highest rate within the limit, for each search.
        rows: mean size of the batches, padding included; 0 without batching.
        padding: share of padding in those rows.
    """

    name: str
    text: str
    probes: list[Probe] = field(default_factory=list)
    found: list[Probe] = field(default_factory=list)
    rows: float = 0.0
    padding: float = 0.0

    @property
    def rate(self) -> float:
        """The highest rate within the limit, requests per second: the median; 0 if none."""
        return statistics.median(probe.rate for probe in self.found) if self.found else 0.0

    @property
    def p99(self) -> float:
        """Milliseconds, at those rates."""
        return statistics.median(probe.p99 for probe in self.found) if self.found else math.inf


def chosen(defaults: Setting, shipped: Setting, best: Setting) -> Setting:
    """The setting to use, from the measurements in turn: of equals the defaults, then the shipped.

    The best of the sweep was chosen from many, so it has to be better each time, not only at the
    median.
    """
    baseline = shipped if shipped.rate > defaults.rate * MARGIN else defaults
    is_better = best.rate > baseline.rate * MARGIN and all(
        mine.rate > max(others.rate for others in baselines)
        for mine, *baselines in zip(best.found, defaults.found, shipped.found, strict=True)
    )
    return best if is_better else baseline


class Tuner:
    """Measures settings of one version.

    Args:
        folder: the version's.
        name: the model's.
        limit: milliseconds that 99 of 100 requests may take.
        seconds: of each probe.
        say: takes a line of progress.

    Raises:
        Unreadable: the version has no golden answers, whose inputs are the requests.
    """

    def __init__(
        self, folder: Path, name: str, limit: float, seconds: float, say: Callable[[str], None]
    ) -> None:
        self._folder, self._name = folder, name
        self._limit, self._seconds, self._say = limit, seconds, say
        self._answers = golden.read(folder)
        self.is_generator_limit = False  # of any rate that did not hold

    def run(self) -> tuple[list[Setting], Setting, Service]:
        """All settings with their measurements, the baselines first; the choice; its service times.

        Raises:
            runner.StartFailed: a server did not start.
            ServingError: a server does not answer a golden input.
        """
        defaults = Setting("server's defaults", "")
        shipped = Setting("shipped", _SHIPPED.read_text())
        with contextlib.ExitStack() as opened:
            last = [(one, opened.enter_context(self._serving(one))) for one in (defaults, shipped)]
            self._load = opened.enter_context(
                generator(requests(last[0][1], self._name, self._answers))
            )
            for setting, server in last:
                self._measure(setting, server, _FIRST)
            swept = self._sweep(max(defaults.rate, shipped.rate) or _FIRST)
            best = max(swept, key=lambda setting: setting.rate)
            last.append((best, opened.enter_context(self._serving(best))))
            near = max(setting.rate for setting, _ in last) or _FIRST  # the same for all
            for setting, _ in last:
                setting.found.clear()
            for _ in range(_ROUNDS):
                for setting, server in last:
                    self._measure(setting, server, near)
            for setting, server in last:
                _count_batches(setting, server)
            use = chosen(defaults, shipped, best)
            server = next(server for setting, server in last if setting is use)
            today = datetime.now(UTC).date()
            of = f"{self._folder}, {use.name}, on {runner.kind()}, {today}"
            service = measured(server, self._name, self._answers, self._seconds, of)
            self._say(f"tune    {use.name}: at most {service.requests_per_second:,.0f} requests/s")
        return [defaults, shipped, *swept], use, service

    def _sweep(self, near: float) -> list[Setting]:
        """Sweep each parameter in turn; `near` is the first rate."""
        found: dict[Batching, Setting] = {}
        best = Batching()
        for name, values in ("rows", [best.rows]), *SWEPT.items():
            for value in values:
                batching = replace(best, **{name: value})
                if batching not in found:
                    setting = found[batching] = Setting(str(batching), batching.text())
                    with self._serving(setting) as server:
                        self._measure(setting, server, near)
                        _count_batches(setting, server)
            best = max(found, key=lambda one: found[one].rate)
        return list(found.values())

    def _measure(self, setting: Setting, server: runner.Server, near: float) -> None:
        """Search the highest rate within the limit."""
        address = server.grpc_url.removeprefix("grpc://")
        held = {0.0: Probe(0.0, math.inf, 0.0, 0.0)}

        def is_within(rate: float) -> bool:
            probe = self._load.probe(address, rate, self._seconds)
            setting.probes.append(probe)
            # It was sent late, but would have been answered in time.
            self.is_generator_limit |= probe.p99 > self._limit > probe.p99 - probe.late
            if probe.p99 <= self._limit:
                held[rate] = probe
            return rate in held

        def holds(rate: float) -> bool:
            return any(is_within(rate) for _ in range(_TRIES))

        found = held[highest(holds, near)]
        setting.found.append(found)
        self._say(f"tune    {setting.name}: {found.rate:,.0f} requests/s, p99 {found.p99:.1f} ms")

    @contextlib.contextmanager
    def _serving(self, setting: Setting) -> Iterator[runner.Server]:
        files = dict(measures.FLAGS)
        with tempfile.NamedTemporaryFile("w", suffix=".config") as file:
            if setting.text:
                file.write(setting.text)
                file.flush()
                Path(file.name).chmod(0o644)  # a server in a container runs as another user
                files["batching_parameters_file"] = Path(file.name)
            flags = ["--enable_batching"] * bool(setting.text)
            with runner.serve(
                self._folder, name=self._name, version=1, flags=flags, files=files
            ) as server:
                yield server


def measured(
    server: runner.Server, name: str, answers: Mapping[str, golden.Answers], seconds: float, of: str
) -> Service:
    """Measure what a server can do, with batches as many callers fill them.

    Args:
        server: serves one version.
        name: the model's.
        answers: golden answers of the version, whose rows are sent.
        seconds: of each load, of which there are seven at most; medians are told.
        of: what is measured, as text.

    Raises:
        ServingError: the server does not answer.
    """
    address = server.grpc_url.removeprefix("grpc://")
    alone, most, batches = [], [], np.zeros(3)
    with generator(requests(server, name, answers)) as load:
        for _ in range(_ROUNDS):
            alone.append(load.pace(address, 1, seconds))
            before = _batches(server)
            most.append(load.pace(address, _CALLERS, seconds))
            batches += _batches(server) - before
    ran, filled, padding = batches
    rows = round((filled - padding) / ran) if ran else 1
    p50 = batch = statistics.median(pace.p50 for pace in alone)
    if rows > 1:
        with generator(requests(server, name, answers, rows)) as load:
            batch = max(p50, load.pace(address, 1, seconds).p50)
    return Service(
        p50_ms=p50,
        p99_ms=statistics.median(pace.p99 for pace in alone),
        requests_per_second=statistics.median(pace.rate for pace in most),
        batch_rows=rows,
        batch_ms=batch,
        cores=_CPUS,
        request_bytes=round(alone[0].size),
        of=of,
    )


def requests(
    server: runner.Server, name: str, answers: Mapping[str, golden.Answers], rows: int = 1
) -> list[Request]:
    """Requests with golden rows of the default signature, or of the first, of so many rows each.

    Raises:
        ServingError: the server does not answer them.
    """
    signature = min(answers, key=lambda name: (name != "serving_default", name))
    asked = answers[signature]
    with ServingClient(server.grpc_url, model=name) as serving:
        golden.ask(serving, signature, asked.row(0))
        declared = serving.metadata().signatures[signature]
    context = CallContext(server.grpc_url, name, signature=signature)
    parts = (_rows(asked.inputs, i, rows) for i in range(min(asked.rows, _REQUESTS)))
    sent = (wire(True).predict(context, conformed(signature, declared, part)) for part in parts)
    return [Request(exchange.method, exchange.body) for exchange in sent]


def highest(holds: Callable[[float], bool], near: float) -> float:
    """The highest rate that holds, to within a tenth; 0 if none does."""
    low, high = 0.0, near
    while high < _HIGHEST and holds(high):
        low, high = high, high * _STEP
    while not low and high > _LOWEST:
        high /= _STEP
        if holds(high):
            low, high = high, high * _STEP
    for _ in range(_HALVINGS if low else 0):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _rows(inputs: Mapping[str, golden.Array], first: int, count: int) -> dict[str, golden.Array]:
    """Rows of the inputs from one on; after the last comes the first."""
    rows = range(first, first + count)
    return {
        alias: array.take(rows, axis=0, mode="wrap") if array.ndim else array
        for alias, array in inputs.items()
    }


def _count_batches(setting: Setting, server: runner.Server) -> None:
    """Sizes and padding of the batches that a server ran, its warm-up included."""
    ran, rows, padding = _batches(server)
    if ran:
        setting.rows = rows / ran
        setting.padding = padding / rows


def _batches(server: runner.Server) -> NDArray[np.float64]:
    """Batches that a server ran since its start, their rows, and rows of padding."""
    metrics = measures.read(server.rest_url)
    names = "processed_batch_size_count", "processed_batch_size_sum", "padding_size_sum"
    return np.array([metrics[f"serving:batching_session:{name}"] for name in names])
