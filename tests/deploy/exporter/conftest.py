"""A list of models, and what a registry says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from deploy.exporter import certificate, replicas
from deploy.exporter.models import Models
from tfserving_client import Policy

CONFIG = """
model_config_list {
  # All of what a file may hold but a name is passed over.
  config {
    name: "mnist" base_path: "/models/mnist" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
  }
  config { name: 'second' base_path: "/models/name: \\"no\\"" model_platform: "tensorflow" }
}
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer than the exporter waits."""
    for module in (replicas, certificate):
        monkeypatch.setattr(module, "TIMEOUT", 30)
    monkeypatch.setattr(replicas, "_NO_RETRY", Policy(timeout=30, attempts=1))


@pytest.fixture
def models(tmp_path: Path) -> Models:
    path = tmp_path / "models.config"
    path.write_text(CONFIG)
    models = Models(path)
    models.read()
    return models


Samples = dict[tuple[str, ...], float]


def read(source: CollectorRegistry | Collector) -> Samples:
    """Every sample: name and label values → number."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in source.collect()
        for sample in family.samples
    }


@pytest.fixture(scope="session")
def samples() -> Callable[[CollectorRegistry | Collector], Samples]:
    return read
