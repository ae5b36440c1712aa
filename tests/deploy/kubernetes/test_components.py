"""What an operator may add to an overlay, and what stands in an overlay's place."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.local.flags import parse
from tests.deploy.conftest import ROOT, kubectl_program
from tests.deploy.kubernetes import schemas
from tests.deploy.kubernetes.references import unmet
from tests.deploy.kubernetes.rendering import (
    FOLDER,
    Object,
    container,
    named,
    objects,
    overlay,
    own,
)

COMPONENTS = ("baked", "hpa", "keda", "monitoring")
TOGETHER = (*((name,) for name in COMPONENTS), ("monitoring", "keda"))
MONITORING = ROOT / "deploy" / "monitoring"
CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "serving.kserve.io/")
LEFT_OUT = {"machine", "monitoring"}  # groups that a cluster has alerts of its own for


def _rendered(folder: Path, names: Sequence[str], overlay: str = "cpu") -> list[Object]:
    return objects(own(folder, names, overlay))


@pytest.mark.parametrize("over", ["gpu", "canary"])
@pytest.mark.parametrize("names", TOGETHER, ids=" ".join)
def test_components_fit_the_api_and_every_reference_leads_somewhere(
    names: Sequence[str], over: str, tmp_path: Path
) -> None:
    rendered = _rendered(tmp_path, names, over)
    assert unmet(rendered) == []
    for each in rendered:
        if not each["apiVersion"].startswith(CUSTOM):
            for minor in schemas.MINORS:
                schemas.check(each, minor)


@pytest.mark.parametrize("name", ["keda", "monitoring", "kserve"])
def test_custom_resources_fit_their_definitions(name: str, tmp_path: Path) -> None:
    rendered = objects(FOLDER / "kserve") if name == "kserve" else _rendered(tmp_path, [name])
    custom = [each for each in rendered if each["apiVersion"].startswith(CUSTOM)]
    assert custom
    for each in custom:
        schemas.check_custom(each)
        each["spec"]["spce"] = 1
        with pytest.raises(jsonschema.ValidationError, match="spce"):
            schemas.check_custom(each)


def test_a_typo_in_a_component_is_found(tmp_path: Path) -> None:
    def broken(kind: str, name: str, change: str, path: list[Any]) -> list[str]:
        rendered = _rendered(tmp_path, ["monitoring", "keda"], "canary")
        found: Any = named(rendered, kind, name)["spec"]
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = change
        return unmet(rendered)

    assert broken("ScaledObject", "serving", "srving", ["scaleTargetRef", "name"])
    assert broken("ServiceMonitor", "serving", "http", ["endpoints", 0, "port"])
    assert broken("ServiceMonitor", "serving", "/metricz", ["endpoints", 0, "path"])
    labels = ["selector", "matchLabels", "app.kubernetes.io/name"]
    assert broken("ServiceMonitor", "exporter", "exprter", labels)


# Autoscaling


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_how_many_servers_there_are_is_the_autoscalers(name: str, tmp_path: Path) -> None:
    rendered = _rendered(tmp_path, [name])
    assert "replicas" not in named(rendered, "Deployment", "serving")["spec"]
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[name]
    spec = named(rendered, kind, "serving")["spec"]
    least = spec.get("minReplicas", spec.get("minReplicaCount"))
    assert least == named(overlay("cpu"), "Deployment", "serving")["spec"]["replicas"]


def test_keda_asks_for_single_numbers_with_plain_names(tmp_path: Path) -> None:
    rendered = _rendered(tmp_path, ["keda"])
    rules = named(rendered, "PrometheusRule", "serving-autoscaling")["spec"]["groups"]
    recorded = {rule["record"] for group in rules for rule in group["rules"]}
    assert all(re.fullmatch(r"[a-z_0-9]+", name) for name in recorded)
    triggers = named(rendered, "ScaledObject", "serving")["spec"]["triggers"]
    asked = [each["metadata"] for each in triggers if each["type"] == "prometheus"]
    assert {each["query"] for each in asked} == recorded
    assert not any("metricName" in each for each in asked)


def test_what_keda_asks_is_one_number_whatever_was_asked(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    rendered = _rendered(tmp_path, ["monitoring", "keda"])
    for name in ("serving-recording", "serving-autoscaling"):
        spec = named(rendered, "PrometheusRule", name)["spec"]
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(spec))
    shutil.copy(Path(__file__).with_name("autoscaling.test.yml"), tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "autoscaling.test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Monitoring


@pytest.mark.parametrize("name", ["recording", "alerts"])
def test_rules_are_those_of_compose(name: str, tmp_path: Path) -> None:
    spec = named(_rendered(tmp_path, ["monitoring"]), "PrometheusRule", f"serving-{name}")["spec"]
    ours = yaml.safe_load((MONITORING / f"{name}.yml").read_text())["groups"]
    kept = [group for group in ours if group["name"] not in LEFT_OUT]
    assert [*map(_without_advice, spec["groups"])] == [*map(_without_advice, kept)]
    advice = [rule.get("annotations", {}) for group in spec["groups"] for rule in group["rules"]]
    assert not any(re.search("compose|deploy up|deploy status", str(each)) for each in advice)
    assert all(" --kubernetes`" in words for words in _commands(str(advice)))


def _commands(text: str) -> list[str]:
    return re.findall(r"`python -m deploy [^`]*`", text)


def _without_advice(group: Object) -> Object:
    rules = [
        {key: value for key, value in rule.items() if key != "annotations"}
        for rule in group["rules"]
    ]
    return {**group, "rules": rules}


def test_rules_are_as_they_are_generated(tmp_path: Path) -> None:
    copy = tmp_path / "deploy"
    shutil.copytree(FOLDER / "components", copy / "kubernetes" / "components")
    shutil.copytree(MONITORING, copy / "monitoring")
    folder = copy / "kubernetes" / "components" / "monitoring"
    before = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    for name in ("alerts", "recording"):
        (folder / f"{name}.yaml").unlink()
    subprocess.run(["sh", folder / "generate.sh"], check=True)
    assert {path.name: path.read_text() for path in folder.glob("*.yaml")} == before


def test_metrics_are_scraped_as_by_compose(tmp_path: Path) -> None:
    rendered = _rendered(tmp_path, ["monitoring"], "canary")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name in "serving", "exporter":
        spec = named(rendered, "ServiceMonitor", name)["spec"]
        (endpoint,) = spec["endpoints"]
        job = jobs[name]
        assert endpoint.get("path", "/metrics") == job.get("metrics_path", "/metrics")
        assert endpoint["interval"] == config["global"]["scrape_interval"]
        for ours, theirs in (
            ("relabelings", "relabel_configs"),
            ("metricRelabelings", "metric_relabel_configs"),
        ):
            assert [*map(_snake, endpoint.get(ours, ()))] == job.get(theirs, [])
    # A job is called as its Service's label says.
    for name in "serving", "candidate", "exporter":
        labels = named(rendered, "Service", name)["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == name
        assert name in jobs


def _snake(rule: Object) -> Object:
    return {re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key): rule[key] for key in rule}


def test_the_exporter_is_found_by_the_gateways_and_runs_as_in_compose(tmp_path: Path) -> None:
    rendered = _rendered(tmp_path, ["monitoring"])
    service = named(rendered, "Service", "exporter")["spec"]
    assert service["clusterIP"] == "None"
    assert {(port["port"], port.get("protocol", "TCP")) for port in service["ports"]} == {
        (9100, "TCP"),
        (1514, "UDP"),
    }
    compose = yaml.load(
        (ROOT / "deploy" / "docker-compose.yml").read_text().replace("!reset", ""),
        yaml.SafeLoader,
    )["services"]["exporter"]
    spec = named(rendered, "Deployment", "exporter")["spec"]["template"]["spec"]
    context = spec["securityContext"]
    assert compose["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    probe = container(rendered, "exporter")["readinessProbe"]
    assert probe["exec"]["command"] == compose["healthcheck"]["test"][1:]
    assert container(rendered, "exporter")["resources"]["limits"]["memory"] == "256Mi"
    assert compose["mem_limit"] == "256m"


# Models in the image


def test_an_image_with_models_needs_no_volume(tmp_path: Path) -> None:
    images = 'images: [{ name: tensorflow/serving, newName: example.com/mnist, newTag: "3" }]\n'
    rendered = objects(own(tmp_path, ["baked"], "canary", images))
    assert not [each for each in rendered if each["kind"] == "PersistentVolumeClaim"]
    for name in "serving", "candidate":
        assert container(rendered, name)["image"] == "example.com/mnist:3"
        assert "/models" not in str(container(rendered, name)["volumeMounts"])
        pod = named(rendered, "Deployment", name)["spec"]["template"]["spec"]
        assert "persistentVolumeClaim" not in str(pod)


# KServe


def test_the_runtime_of_kserve_serves_with_the_flags_of_the_overlays() -> None:
    runtime = named(objects(FOLDER / "kserve"), "ServingRuntime", "tensorflow-serving")["spec"]
    (only,) = runtime["containers"]
    assert only["image"] == container(overlay("cpu"), "serving")["image"]
    assert only["resources"] == container(overlay("cpu"), "serving")["resources"]
    own_flags = {"--model_name", "--model_base_path", "--port", "--rest_api_port"}
    ours = {*container(overlay("cpu"), "serving")["args"]}
    kept = {word for word in only["args"] if word.partition("=")[0] not in own_flags}
    assert kept < ours
    words = [word.replace("$(CPUS)", "4").replace("{{.Name}}", "mnist") for word in only["args"]]
    parsed, unknown = parse(words)
    assert (parsed.model_name, parsed.rest_api_port, unknown) == ("mnist", 8080, [])
    model = named(objects(FOLDER / "kserve"), "InferenceService", "mnist")["spec"]["predictor"]
    assert model["model"]["runtime"] == "tensorflow-serving"
    assert model["model"]["modelFormat"] in runtime["supportedModelFormats"]
    assert model["model"]["protocolVersion"] in runtime["protocolVersions"]


# What README.md says

README = (FOLDER / "README.md").read_text()


def test_an_overlay_of_ones_own_as_it_is_written_there(tmp_path: Path) -> None:
    whole, models = re.findall(
        r"```yaml\n((?:apiVersion: kust|configMapG).*?)```", README, re.DOTALL
    )
    (tmp_path / "digits-serving").symlink_to(ROOT)
    (tmp_path / "models.config").write_text("model_config_list {}")
    (tmp_path / "kustomization.yaml").write_text(whole + models)
    rendered = objects(tmp_path)
    assert unmet(rendered) == []
    assert {each["metadata"]["namespace"] for each in rendered} == {"digits"}
    assert container(rendered, "exporter")["image"] == "registry.example.com/exporter:1"
    assert container(rendered, "serving")["resources"]["limits"]["cpu"] == "8"
    assert named(rendered, "ConfigMap", "models")["data"] == {
        "models.config": "model_config_list {}"
    }


def test_canaries_on_gpus_as_they_are_written_there(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```yaml\n(resources: .*?)```", README, re.DOTALL)
    (tmp_path / "digits-serving").symlink_to(ROOT)
    (tmp_path / "kustomization.yaml").write_text(lines)
    rendered = objects(tmp_path)
    assert unmet(rendered) == []
    for name in ("serving", "candidate"):
        assert container(rendered, name) == container(overlay("gpu"), "serving") | {
            "env": container(rendered, name)["env"]
        }


def test_the_pod_that_brings_models_fits_the_api_and_the_claim() -> None:
    pod = yaml.safe_load((FOLDER / "loader.yaml").read_text())
    for minor in schemas.MINORS:
        schemas.check(pod, minor)
    (only,) = pod["spec"]["containers"]
    server = container(overlay("cpu"), "serving")
    assert only["image"] == container(overlay("cpu"), "gateway")["image"]
    assert only["securityContext"] == server["securityContext"]
    (volume,) = pod["spec"]["volumes"]
    (claim,) = (each for each in overlay("cpu") if each["kind"] == "PersistentVolumeClaim")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert re.search(rf"TFS_VERSION={server['image'].partition(':')[2]} ", README)


def test_kubectl_is_of_a_minor_that_is_said_to_be_supported() -> None:
    done = subprocess.run(
        [kubectl_program(), "version", "--client"], capture_output=True, text=True
    )
    minor = int(re.findall(r"v1\.(\d+)", done.stdout)[0])
    (oldest,) = re.findall(r"kubectl 1\.(\d+) or later", README)
    assert minor >= int(oldest)
