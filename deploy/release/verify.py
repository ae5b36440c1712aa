"""Verify a version: serve it alone, and compare its answers with its golden answers and card."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from deploy import runner
from deploy.release import card, golden, measures
from deploy.release.errors import Unreadable
from deploy.release.golden import Answers
from tfserving_client import Policy, ServingClient, ServingError, Signature, TensorSpec

_MANIFEST = Path("assets.extra", "SHA256SUMS")
_CALLS, _SECONDS, _FEWEST = (
    300,
    3.0,
    20,
)  # calls of one row to measure: at most this many, and at most this long
# Without waiting or retries: a failure here is a result.
_LOAD_ONCE = "--max_num_load_retries=0"
_POLICY = Policy(timeout=60, attempts=1)
_FAILED_TO_LOAD = re.compile(r"due to error: (.*?)(\}, \})?\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of single calls of one row, in milliseconds; `first` is the first call."""

    first: float
    p50: float
    p99: float
    calls: int


@dataclass(slots=True)
class Report:
    """The result; without `problems` (sentences) the version is verified.

    Attributes:
        path: the folder of the version.
        model: the name of the model.
        version: the number that it was served under.
        server: the kind of server.
        problems: what is wrong.
        rows: signature → its golden rows; None without any.
        seconds: `start`, until it was AVAILABLE, and of that `load` and `warm-up`.
        memory: peak memory of the server in bytes; None if unknown.
        latency: protocol → latency of one row.
    """

    path: str
    model: str
    version: int
    server: str
    problems: list[str] = field(default_factory=list)
    rows: dict[str, int | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: int | None = None
    latency: dict[str, Latency] = field(default_factory=dict)

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps({"verified": not self.problems, **asdict(self)})

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"version    {self.path}, as {self.model} {self.version}"
        yield f"server     {self.server}"
        if self.seconds:
            took = [
                f"{name.replace('_', ' ')} {value:.2f} s" for name, value in self.seconds.items()
            ]
            yield f"time       {', '.join(took)}"
        if self.memory is not None:
            yield f"memory     {self.memory / 1e6:,.0f} MB at most"
        for protocol, row in self.latency.items():
            steady = f"p50 {row.p50:.2f}, p99 {row.p99:.2f} ms of {row.calls} calls of one row"
            yield f"{protocol:9}  first {row.first:.1f} ms, then {steady}"
        for signature, rows in self.rows.items():
            asked = "no golden answers" if rows is None else f"{rows} rows"
            yield f"signature  {signature}: {asked}"
        for problem in self.problems:
            yield f"problem    {problem}"
        yield "verdict    " + ("refused" if self.problems else "verified: it answers as published")


def verify(
    folder: Path,
    name: str,
    version: int = 1,
    *,
    without_golden: bool = False,
    timeout: float = runner.START_TIMEOUT,
) -> Report:
    """Serve a version alone on a temporary server, and ask all its signatures over both protocols.

    Args:
        folder: of the version, of any name.
        name: the model's.
        version: its number, if it has one.
        without_golden: accept a version without golden answers.
        timeout: seconds to become AVAILABLE.

    Raises:
        runner.NoServer: there is none to serve it.
    """
    report = Report(str(folder), name, version, runner.kind())
    described, answers = _brought(folder, report, without_golden)
    started = time.monotonic()
    try:
        with runner.serve(
            folder,
            name=name,
            version=version,
            flags=[_LOAD_ONCE],
            files=measures.FLAGS,
            timeout=timeout,
        ) as server:
            report.seconds = {"start": time.monotonic() - started} | _of_load(server)
            found: dict[str, list[str]] = {}
            for protocol, url in (("gRPC", server.grpc_url), ("REST", server.rest_url)):
                with ServingClient(url, model=name, policy=_POLICY) as serving:
                    for problem in _ask(serving, protocol, described, answers, report):
                        found.setdefault(problem, []).append(protocol)
            report.problems += [f"{what} (over {' and '.join(by)})" for what, by in found.items()]
            report.memory = server.peak_memory()
    except runner.NoServer:
        raise
    except runner.StartFailed as error:
        report.problems.append(f"it does not load: {_reason(error)}")
    report.problems += _changed(folder)
    return report


def _brought(
    folder: Path, report: Report, without_golden: bool
) -> tuple[card.Card | None, Mapping[str, Answers]]:
    """The card and the golden answers, if they can be read."""
    described: card.Card | None = None
    try:
        described = card.read(folder)
        if (folder / golden.PATH).exists():
            return described, golden.read(folder)
        if not without_golden:
            report.problems.append(
                f"it has no {golden.PATH}, so there are no golden answers to compare with; "
                "`python -m export --model FOLDER` publishes it with golden answers, "
                "--without-golden accepts it as it is"
            )
    except Unreadable as error:
        report.problems.append(str(error))
    return described, {}


def _of_load(server: runner.Server) -> dict[str, float]:
    """Seconds that the server itself reports; empty if it does not."""
    try:
        found = measures.read(server.rest_url)
    except OSError:
        return {}
    return {
        "load": found["cc:saved_model:load_latency"] / 1e6,
        "warm-up": found["serving:model_warmup_latency_sum"] / 1e6,
    }


def _ask(
    serving: ServingClient,
    protocol: str,
    described: card.Card | None,
    answers: Mapping[str, Answers],
    report: Report,
) -> Iterator[str]:
    """What is wrong over one protocol; if nothing is, measures the latency too."""
    try:
        served = serving.metadata().signatures
        first = _milliseconds(serving, answers)
        served = {name: one for name, one in served.items() if not name.startswith("__")}
        report.rows = {
            name: answers[name].rows if name in answers else None for name in sorted(served)
        }
        wrong = [*_unlike(described.signatures if described else served, served)]
        wrong += golden.disagreements(serving, answers)
        if answers and not wrong:
            report.latency[protocol] = _latency(first, serving, answers)
        yield from wrong
    except ServingError as error:
        yield f"it does not answer: {error}"


def _milliseconds(serving: ServingClient, answers: Mapping[str, Answers]) -> float:
    """Latency of one row, with the default signature if it has golden answers."""
    started = time.perf_counter()
    for signature in sorted(answers, key=lambda name: name != "serving_default")[:1]:
        golden.ask(serving, signature, answers[signature].row(0))
    return 1e3 * (time.perf_counter() - started)


def _latency(first: float, serving: ServingClient, answers: Mapping[str, Answers]) -> Latency:
    times: list[float] = []
    end = time.monotonic() + _SECONDS
    while len(times) < _FEWEST or (len(times) < _CALLS and time.monotonic() < end):
        times.append(_milliseconds(serving, answers))
    p50, p99 = np.percentile(times, [50, 99], method="inverted_cdf")
    return Latency(first, float(p50), float(p99), len(times))


def _unlike(card: Mapping[str, Signature], served: Mapping[str, Signature]) -> Iterator[str]:
    """Differences between what is served and the card."""
    for name in sorted(card.keys() - served.keys()):
        yield f"signature {name} is on its card, but is not served"
    for name in sorted(served.keys() - card.keys()):
        yield f"signature {name} is served, but is not on its card"
    for name in sorted(card.keys() & served.keys()):
        for side in ("inputs", "outputs"):
            said, found = getattr(card[name], side), getattr(served[name], side)
            for alias in sorted(said.keys() | found.keys()):
                is_, was = _told(found.get(alias)), _told(said.get(alias))
                if is_ != was:
                    yield f"signature {name}: {side[:-1]} {alias} is {is_}; its card says {was}"


def _told(spec: TensorSpec | None) -> str:
    # A card has no shape for an unknown rank.
    sizes = ", ".join("n" if size is None else str(size) for size in (spec and spec.shape) or ())
    return f"{spec.dtype} [{sizes}]" if spec else "nothing"


def _reason(error: runner.StartFailed) -> str:
    """Why a server did not start, from its output."""
    if found := _FAILED_TO_LOAD.search(error.said):
        return " ".join(found[1].split())
    *_, last = error.said.splitlines() or ["nothing"]
    return f"its server {error.what}; its last line of output: {last}"


def _changed(folder: Path) -> Iterator[str]:
    """Files that differ from the version's own list; other files are ignored."""
    path = folder / _MANIFEST
    if not path.is_file():
        return
    lines = (line.partition("  ") for line in path.read_text(errors="replace").splitlines())
    listed = {name: digest for digest, _, name in lines}
    for file in sorted(folder.rglob("*")):
        digest = listed.pop(file.relative_to(folder).as_posix(), None)
        if digest and file.is_file():
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != digest:
                    yield f"{file.relative_to(folder)} has changed since publication"
    yield from (f"{name} is missing" for name in sorted(listed))
