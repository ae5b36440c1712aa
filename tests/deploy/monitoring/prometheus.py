"""The committed monitoring, made quick, and a Prometheus to ask about it."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
DEADLINE = 300.0  # seconds for what takes a few

Samples = list[tuple[dict[str, str], float]]


def quick(folder: Path) -> Path:
    """A copy of the configuration that looks each second, and whose alerts wait for one."""
    copy = folder / "monitoring"
    shutil.copytree(MONITORING, copy)
    for path in copy.glob("*.yml"):
        text = path.read_text().replace("15s", "1s")
        path.write_text(re.sub(r"\bfor: \w+", "for: 1s", text))
    return copy / "prometheus.yml"


def expressions(model: str = ".*") -> Iterator[str]:
    """Every query of every dashboard for models so called, and what fills its lists of choices."""
    # What Grafana puts in; its interval is four times the scrapes'.
    variables = {"$model": model, "$replica": ".*", "$__rate_interval": "1m"}
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"]
                for name, value in variables.items():
                    expression = expression.replace(name, value)
                yield expression
        for variable in dashboard["templating"]["list"]:
            yield re.sub(r"label_values\((.+), (\w+)\)", r"count by (\2) (\1)", variable["query"])


def until(holds: Callable[[], Any], what: str) -> Any:
    """The first true value; fails after a generous time."""
    deadline = time.monotonic() + DEADLINE
    while not (value := holds()):
        assert time.monotonic() < deadline, f"waited {DEADLINE:g} s for {what}"
        time.sleep(0.2)
    return value


@contextlib.contextmanager
def process(folder: Path, *command: str | Path) -> Iterator[None]:
    """A program that runs meanwhile; it writes its log into the folder."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        with subprocess.Popen([*map(str, command)], stdout=log, stderr=log) as program:
            try:
                yield
            finally:
                program.terminate()


@contextlib.contextmanager
def again_and_again(work: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do it meanwhile, in a thread, with so many seconds between."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Prometheus:
    """A running one, by its URL."""

    url: str

    def query(self, expression: str) -> Samples:
        """Labels and values of an expression, now."""
        result = self._get("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def has_data(self, queries: Sequence[str], meanwhile: Callable[[], object] = bool) -> None:
        """Waits until each of them returns numbers; `meanwhile` is done before each look."""
        missing = list(queries)

        def none_missing() -> bool:
            meanwhile()
            missing[:] = [query for query in missing if not _has_numbers(self.query(query))]
            return not missing

        with contextlib.suppress(AssertionError):
            until(none_missing, "data")
        assert not missing, missing

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it has loaded."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def health(self) -> dict[str, list[str]]:
        """Job → the health of each of its targets."""
        health: dict[str, list[str]] = {}
        for target in self._get("targets")["activeTargets"]:
            health.setdefault(target["labels"]["job"], []).append(target["health"])
        return health

    def becomes(self, alert: str, state: str) -> None:
        """Waits until an alert is inactive, pending or firing: looking each second, a busy machine
        misses a look now and then, which is an alert for a moment.
        """

        def state_now() -> str:
            return next(str(rule["state"]) for rule in self.rules() if rule["name"] == alert)

        until(lambda: state_now() == state, f"{alert} {state}")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return bool(self.query("vector(1)"))
        except (OSError, urllib.error.URLError):
            return False

    def _get(self, what: str, **arguments: str) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]


def _has_numbers(samples: Samples) -> bool:
    return bool(samples) and all(math.isfinite(value) for _, value in samples)


@contextlib.contextmanager
def started(config: Path, port: int) -> Iterator[Prometheus]:
    """One of this machine's, with its memory beside its configuration."""
    folder = config.parent
    with process(
        folder,
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        until(prometheus.answers, "Prometheus")
        yield prometheus
