"""What the overlays render, held to the API of the last minors and to what the bundle promises."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes import schemas
from tests.deploy.kubernetes.rendering import FOLDER, OVERLAYS, container, named, overlay, pods

PINNED = dict(re.findall(r"^(\w+)_VERSION=(.+)$", (ROOT / ".env").read_text(), re.MULTILINE))
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@pytest.mark.parametrize("minor", schemas.MINORS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_fits_the_api(name: str, minor: str) -> None:
    for each in overlay(name):
        schemas.check(each, minor)


@pytest.mark.parametrize("minor", schemas.MINORS)
def test_the_api_refuses_a_field_that_it_does_not_know(minor: str) -> None:
    for each in overlay("cpu"):
        each["spce"] = {}
        with pytest.raises(jsonschema.ValidationError, match="spce"):
            schemas.check(each, minor)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_of_no_namespace_and_has_a_name_to_be_found_by(name: str) -> None:
    for each in overlay(name):
        assert "namespace" not in each["metadata"]
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "digits-serving"


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_ten_lines(name: str) -> None:
    lines = (FOLDER / "overlays" / name / "kustomization.yaml").read_text().splitlines()
    assert len(lines) <= 12


def test_the_manifests_of_an_overlay_fit_on_two_screens() -> None:
    """Of a hundred lines each; what is the very same file for Compose is read there."""
    folders = ("base", "base/server", "base/gateway", "components/cpu")
    files = [path for folder in folders for path in (FOLDER / folder).glob("*.yaml")]
    manifests = [path.read_text() for path in files if path.name != "kustomization.yaml"]
    assert len("".join(manifests).splitlines()) <= 200


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_are_the_pinned_ones(name: str) -> None:
    images = {pod: container(overlay(name), pod)["image"] for pod, _ in pods(overlay(name))}
    server = f"tensorflow/serving:{PINNED['TFS']}{'-gpu' if name == 'gpu' else ''}"
    assert images.pop("gateway") == f"nginx:{PINNED['NGINX']}"
    assert {*images.values()} == {server}


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_may_do_nothing_that_they_need_not(name: str) -> None:
    for _, pod in pods(overlay(name)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in spec["containers"]:
            assert each["securityContext"] == RESTRICTED
            assert {*each["resources"]} == {"requests", "limits"}
            assert {"cpu", "memory"} <= {*each["resources"]["limits"]}
            written = {mount["name"] for mount in each["volumeMounts"] if not mount.get("readOnly")}
            memory = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
            assert written == memory


def test_a_gpu_is_asked_for_and_none_is_needed_to_spare() -> None:
    gpu = overlay("gpu")
    assert container(gpu, "serving")["resources"]["limits"]["nvidia.com/gpu"] == 1
    deployment = named(gpu, "Deployment", "serving")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "nvidia.com/gpu" not in str(overlay("cpu"))


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_ends_has_the_time_that_it_waits_and_drains(name: str) -> None:
    for deployment, pod in pods(overlay(name)):
        wait = container(overlay(name), deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = _shutdown_timeout() if deployment == "gateway" else 0
        assert pod["spec"]["terminationGracePeriodSeconds"] > wait + drain


def _shutdown_timeout() -> int:
    text = (ROOT / "deploy" / "gateway" / "nginx.conf").read_text()
    return int(re.findall(r"^worker_shutdown_timeout (\d+)s;", text, re.MULTILINE)[0])


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_large_model_has_half_an_hour_to_load(name: str) -> None:
    for deployment, _ in pods(overlay(name)):
        if deployment == "gateway":
            continue
        probe = container(overlay(name), deployment)["startupProbe"]
        longest = probe["periodSeconds"] * probe["failureThreshold"]
        assert longest >= 1800
        spec = named(overlay(name), "Deployment", deployment)["spec"]
        assert spec["progressDeadlineSeconds"] > longest + spec["minReadySeconds"]


def test_only_the_gateway_reaches_the_servers_and_it_only_them() -> None:
    policies = {name: named(overlay("canary"), "NetworkPolicy", name)["spec"] for name in _ROOMS}
    servers, gateways = (policies[name]["podSelector"] for name in _ROOMS)
    (rule,) = policies["serving"]["ingress"]
    assert rule["from"] == [{"podSelector": gateways}]
    assert "egress" not in policies["serving"]
    (rule,) = policies["gateway"]["ingress"]
    assert rule == {"ports": [{"port": "https"}]}
    to, names = policies["gateway"]["egress"]
    assert to["to"] == [{"podSelector": servers}]
    assert {port["port"] for port in names["ports"]} == {53}
    for policy in policies.values():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
    for deployment, pod in pods(overlay("canary")):
        selector = gateways if deployment == "gateway" else servers
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()


_ROOMS = ("serving", "gateway")


def test_a_candidate_is_a_server_with_a_list_of_models_of_its_own() -> None:
    canary = overlay("canary")
    stable, candidate = (container(canary, name) for name in ("serving", "candidate"))
    assert candidate["env"].pop() == {"name": "CONFIGURATION", "value": "candidate.config"}
    assert candidate == stable
    # A number would be in conflict with the one that a release sets.
    assert "replicas" not in named(canary, "Deployment", "candidate")["spec"]
    start = named(canary, "ConfigMap", "canary")["data"]
    assert start == {"candidate.config": "model_config_list {}"}  # and nobody is sent there


def test_names_that_the_gateway_asks_for_mean_every_ready_pod() -> None:
    script = (ROOT / "deploy" / "gateway" / "start.sh").read_text()
    for name in re.findall(r"\$\(addresses (serving|candidate)\)", script):
        service = named(overlay("canary"), "Service", name)["spec"]
        assert service["clusterIP"] == "None"
        assert not service.get("publishNotReadyAddresses")
        assert {port["port"] for port in service["ports"]} == {8500, 8501}


def test_a_selector_picks_what_the_canary_has_beside_the_others() -> None:
    """By which a cluster with a release gets a candidate: `deploy/release/cluster.py`."""
    selected = [
        each
        for each in overlay("canary")
        if each["metadata"]["labels"].get("app.kubernetes.io/component") == "candidate"
    ]
    assert [each for each in overlay("canary") if each not in selected] == overlay("cpu")


def test_every_file_of_a_folder_is_in_its_config_map() -> None:
    """What Compose mounts whole, kustomize wants file by file."""
    held: dict[str, set[str]] = {}
    for each in overlay("cpu"):
        if each["kind"] == "ConfigMap":
            held[re.sub(r"-\w{10}$", "", each["metadata"]["name"])] = {*each["data"]}
    for name, folder in {"gateway": "gateway", "page": "page", "scripts": "serving"}.items():
        assert held[name] == _files(ROOT / "deploy" / folder)
    assert held["server"] | held["models"] == _files(ROOT / "deploy" / "server")


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
