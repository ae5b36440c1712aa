"""What each replica of the server serves: asked at each scrape, so nothing is outdated."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy.exporter.models import Models
from deploy.model_config import Model
from deploy.served import Difference, Kind, Served, ask, differences, not_configured
from tfserving_client import Policy

TIMEOUT = 1.5  # seconds for each request; Prometheus itself waits ten
_AT_ONCE = 16
_LONGEST = 300  # characters of a label
_NO_RETRY = Policy(timeout=TIMEOUT, attempts=1)


class Replicas(Collector):
    """What every replica serves of every model, and how that differs from the configuration.

    Args:
        places: host and REST port, `serving:8501`, or several, separated by commas; each address
            of a name is a replica.
        models: the models to ask for.
        see: maps a path of the server to a path here.
    """

    def __init__(self, places: str, models: Models, see: Callable[[str], Path] = Path) -> None:
        self._places = places.split(",")
        self._models = models
        self._see = see
        self._threads = ThreadPoolExecutor(_AT_ONCE, "replica")

    def collect(self) -> Iterator[Metric]:
        """Ask all replicas at once; those that do not answer in time are down."""
        self._models.read()
        up = GaugeMetricFamily("digits_replica_up", "1 if the replica answers.", labels=["replica"])
        of_model = ["replica", "model"]
        available = GaugeMetricFamily(
            "digits_model_available", "1 if a version is AVAILABLE.", labels=of_model
        )
        newest = GaugeMetricFamily(
            "digits_model_newest_available_version",
            "The newest version that is AVAILABLE.",
            labels=of_model,
        )
        states = GaugeMetricFamily(
            "digits_model_version_state",
            "Always 1; the state is a label.",
            labels=[*of_model, "version", "state"],
        )
        differs = GaugeMetricFamily(
            "digits_model_differs",
            "Always 1; the label says what is not as configured, which the server does not report.",
            labels=[*of_model, "version", "kind", "what"],
        )
        if self._models.wrong:
            differs.add_metric(["", "", "", Kind.CONFIGURATION, _short(self._models.wrong)], 1)
        configured = {model.name: model for model in self._models.configured}
        for replica, answers in self._ask(self._addresses(), configured):
            up.add_metric([replica], any(answer is not None for answer in answers.values()))
            for name, served in answers.items():
                if name in configured:
                    available.add_metric([replica, name], bool(served and served.available))
                if served is None:
                    continue
                if served.available:
                    newest.add_metric([replica, name], max(served.available))
                for one in served.versions:
                    states.add_metric([replica, name, str(one.version), one.state], 1)
                for found in self._differences(name, configured, served):
                    version = "" if found.version is None else str(found.version)
                    differs.add_metric([replica, name, version, found.kind, _short(found.what)], 1)
        yield from (up, available, newest, states, differs)

    def _differences(
        self, name: str, configured: Mapping[str, Model], served: Served
    ) -> Iterator[Difference]:
        if name in configured:
            return differences(configured[name], served, self._see)
        return not_configured(name, served)

    def _addresses(self) -> list[str]:
        # In threads: the resolver may need longer for a missing name than a scrape may take.
        looked_up = [self._threads.submit(_resolve, place) for place in self._places]
        found: set[str] = set()
        for addresses in looked_up:
            with contextlib.suppress(OSError, TimeoutError):
                found |= addresses.result(TIMEOUT)
        return sorted(found)

    def _ask(
        self, replicas: Iterable[str], configured: Mapping[str, Model]
    ) -> Iterator[tuple[str, dict[str, Served | None]]]:
        labels = {name: tuple(model.labels) for name, model in configured.items()}
        asked = [
            (
                replica,
                {
                    name: self._threads.submit(
                        ask, f"http://{replica}", name, labels.get(name, ()), _NO_RETRY
                    )
                    for name in sorted(self._models.names)
                },
            )
            for replica in replicas
        ]
        for replica, answers in asked:
            yield replica, {model: answer.result() for model, answer in answers.items()}


def _resolve(place: str) -> set[str]:
    host, _, port = place.rpartition(":")
    return {f"{address}:{port}" for address in socket.gethostbyname_ex(host)[2]}


def _short(text: str) -> str:
    """One line, short enough for a label."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
