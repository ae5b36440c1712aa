"""Which versions each replica of the server has: asked anew at each scrape, so none is outdated."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy.exporter.models import Models
from tfserving_client import NotFound, Policy, ServingClient, ServingError, State, VersionStatus

TIMEOUT = 1.5  # seconds for each question; Prometheus itself waits ten
_AT_ONCE = 16
_NO_RETRY = Policy(timeout=TIMEOUT, attempts=1)


class Replicas(Collector):
    """The states of every model's versions on every address that a name has.

    Args:
        places: host and REST port, `serving:8501`, or several with commas between them; each
            address of a name is a replica.
        models: which to ask for.
    """

    def __init__(self, places: str, models: Models) -> None:
        self._places = places.split(",")
        self._models = models
        self._threads = ThreadPoolExecutor(_AT_ONCE, "replica")

    def collect(self) -> Iterator[Metric]:
        """Ask all replicas at once; those that do not answer in time are down."""
        self._models.read()
        up = GaugeMetricFamily("digits_replica_up", "Whether it answers.", labels=["replica"])
        of_model = ["replica", "model"]
        available = GaugeMetricFamily(
            "digits_model_available", "Whether some version is AVAILABLE.", labels=of_model
        )
        newest = GaugeMetricFamily(
            "digits_model_newest_available_version", "The version that answers.", labels=of_model
        )
        states = GaugeMetricFamily(
            "digits_model_version_state",
            "Always 1: the state is a label.",
            labels=[*of_model, "version", "state"],
        )
        for replica, answers in self._ask(self._addresses()):
            up.add_metric([replica], any(answer is not None for answer in answers.values()))
            for model, versions in answers.items():
                loaded = [v.version for v in versions or () if v.state is State.AVAILABLE]
                available.add_metric([replica, model], bool(loaded))
                if loaded:
                    newest.add_metric([replica, model], max(loaded))
                for one in versions or ():
                    states.add_metric([replica, model, str(one.version), one.state], 1)
        yield from (up, available, newest, states)

    def _addresses(self) -> list[str]:
        # In threads: a name that is gone may take the resolver longer than we may take.
        looked_up = [self._threads.submit(_resolve, place) for place in self._places]
        found: set[str] = set()
        for addresses in looked_up:
            with contextlib.suppress(OSError, TimeoutError):
                found |= addresses.result(TIMEOUT)
        return sorted(found)

    def _ask(
        self, replicas: Iterable[str]
    ) -> Iterator[tuple[str, dict[str, tuple[VersionStatus, ...] | None]]]:
        asked = [
            (replica, {name: self._threads.submit(_status, replica, name) for name in names})
            for names in [self._models.names]
            for replica in replicas
        ]
        for replica, answers in asked:
            yield replica, {model: answer.result() for model, answer in answers.items()}


def _resolve(place: str) -> set[str]:
    host, _, port = place.rpartition(":")
    return {f"{address}:{port}" for address in socket.gethostbyname_ex(host)[2]}


def _status(replica: str, model: str) -> tuple[VersionStatus, ...] | None:
    """The model's versions; None where nothing answers as the server does."""
    try:
        with ServingClient(f"http://{replica}", model=model, policy=_NO_RETRY) as serving:
            return serving.status()
    except NotFound:
        return ()
    except ServingError:
        return None
