"""Each reference of the manifests leads somewhere; each check is seen to find a typo."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.kubernetes.references import unmet
from tests.deploy.kubernetes.rendering import OVERLAYS, Object, named, overlay

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
SOURCES = "projected.sources"

# Kind, name, path of a reference, what is written there wrongly, and what is said of it.
TYPOS = [
    ("Service", "serving", "spec.selector.app\\.kubernetes\\.io/component", "srving", "labels"),
    ("Service", "serving", "spec.ports.0.targetPort", "grcp", "grcp"),
    ("Service", "gateway", "spec.ports.0.targetPort", 8444, "8444"),
    ("PodDisruptionBudget", "gateway", "spec.selector.matchLabels", {"a": "b"}, "labels"),
    ("PodDisruptionBudget", "serving", "spec.selector.matchLabels", {}, "labels"),
    ("NetworkPolicy", "serving", "spec.podSelector.matchLabels", {"a": "b"}, "labels"),
    (
        "NetworkPolicy",
        "serving",
        "spec.ingress.0.from.0.podSelector.matchLabels",
        {"app.kubernetes.io/name": "gatewy"},
        "gatewy",
    ),
    ("NetworkPolicy", "serving", "spec.ingress.0.ports.1.port", "http", "http"),
    ("NetworkPolicy", "gateway", "spec.egress.0.ports.0.port", "grcp", "grcp"),
    ("Deployment", "serving", "spec.selector.matchLabels", {"app": "x"}, "labels"),
    (
        "Deployment",
        "serving",
        f"{POD}.topologySpreadConstraints.1.labelSelector.matchLabels",
        {"app": "x"},
        "labels",
    ),
    ("Deployment", "serving", f"{POD}.volumes.0.name", "confg", "confg"),
    ("Deployment", "serving", f"{CONTAINER}.volumeMounts.1.name", "modls", "modls"),
    (
        "Deployment",
        "serving",
        f"{POD}.volumes.0.{SOURCES}.1.configMap.name",
        "mdls",
        "mdls",
    ),
    ("Deployment", "serving", f"{POD}.volumes.1.persistentVolumeClaim.claimName", "mdl", "mdl"),
    ("Deployment", "serving", f"{POD}.volumes.2.configMap.defaultMode", 0o444, "no program"),
    ("Deployment", "serving", f"{CONTAINER}.command.0", "/serving/strat.sh", "strat.sh"),
    ("Deployment", "serving", f"{CONTAINER}.args.0", "--model_config_file=/config/m", "/config/m"),
    ("Deployment", "serving", f"{CONTAINER}.args.3", "--monitoring_config_file=/x.y", "/x.y"),
    ("Deployment", "serving", f"{CONTAINER}.args.7", "--parallelism=$(CPU)", "CPU"),
    (
        "Deployment",
        "serving",
        f"{CONTAINER}.env.2.valueFrom.resourceFieldRef.resource",
        "limits.cpus",
        "limits.cpus",
    ),
    ("Deployment", "serving", f"{CONTAINER}.readinessProbe.exec.command.0", "/serving/x", "/x"),
    ("Deployment", "serving", f"{CONTAINER}.startupProbe.grpc.port", 8050, "8050"),
    ("Deployment", "serving", f"{CONTAINER}.livenessProbe.grpc.port", 8050, "8050"),
    ("Deployment", "serving", f"{CONTAINER}.volumeMounts.2.mountPath", "/srving", "no program"),
    (
        "Deployment",
        "gateway",
        f"{POD}.volumes.4.{SOURCES}.0.secret.name",
        "gateway-kyes",
        "gateway-kyes",
    ),
    (
        "Deployment",
        "gateway",
        f"{POD}.volumes.4.{SOURCES}.1.secret.items.0.key",
        "tls.cert",
        "tls.cert",
    ),
    (
        "Deployment",
        "gateway",
        f"{POD}.volumes.3.{SOURCES}.1.configMap.name",
        "cnry",
        "cnry",
    ),
]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_reference_leads_somewhere(name: str) -> None:
    assert unmet(overlay(name)) == []


@pytest.mark.parametrize(("kind", "name", "path", "wrong", "said"), TYPOS)
def test_a_typo_is_found(kind: str, name: str, path: str, wrong: Any, said: str) -> None:
    objects = overlay("cpu")
    _put(named(objects, kind, name), path, wrong)
    found = unmet(objects)
    assert any(name in sentence and said in sentence for sentence in found), found


def test_what_is_missing_is_found() -> None:
    for kind, name in (
        ("ConfigMap", "gateway"),
        ("ConfigMap", "models"),
        ("ConfigMap", "scripts"),
        ("PersistentVolumeClaim", "models"),
        ("Deployment", "gateway"),
        ("Deployment", "serving"),
    ):
        objects = overlay("cpu")
        objects.remove(named(objects, kind, name))
        assert unmet(objects), f"{kind} {name}"


def test_a_name_given_twice_is_found() -> None:
    objects = overlay("cpu")
    assert unmet([*objects, named(objects, "Service", "serving")])


def _put(target: Object, path: str, value: Any) -> None:
    *steps, last = (step.replace("\0", ".") for step in path.replace("\\.", "\0").split("."))
    found: Any = target
    for step in steps:
        found = found[int(step) if isinstance(found, list) else step]
    key = int(last) if isinstance(found, list) else last
    assert found[key] != value
    found[key] = value
