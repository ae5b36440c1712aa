"""Releases on a cluster: real kubectl, real servers in its pods, the API a test's own."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deploy.operate.access import keys, secret_files
from deploy.release import sharing
from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.gateway import secrets_in
from tests.deploy.kubernetes.api import Api
from tests.deploy.kubernetes.cluster import NAMESPACE, Cluster, reached
from tests.deploy.release.measured import Measured, going_on, measured
from tfserving_client import ServingClient

MODELS = """model_config_list {
  config {
    name: "mnist"
    base_path: "/models/mnist"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "stable" value: 1 }
  }
}
"""
EMPTY = "model_config_list {}"
NAMES = ["ann", "bob", "cy", "di"]


@dataclass(frozen=True)
class Pod:
    """A server in a pod, which reads what is mounted there."""

    folder: Path
    models: Path
    ports: Mapping[int, int]
    idle: list[Pod]  # takes it when it is stopped

    def started(self) -> bool:
        return True

    def port(self, inside: int) -> int:
        return self.ports[inside]

    def mount(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text.replace("/models/", f"{self.models}/"))

    def stop(self) -> None:
        self.idle.append(self)


class Pods:
    """Starts them; a stopped one's server is the next one's, as TensorFlow starts slowly."""

    def __init__(self, folder: Path, models: Path) -> None:
        self._folder, self._models = folder, models
        self._idle: dict[str, list[Pod]] = {"serving": [], "candidate": []}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, deployment: str, files: dict[str, str]) -> Pod:
        idle = self._idle[deployment]
        if idle:
            pod = idle.pop()
            pod.mount(files)
            return pod
        folder = self._folder / f"pod-{len(self._processes)}"
        folder.mkdir()
        grpc, rest = free_ports(2)
        pod = Pod(folder, self._models, {8500: grpc, 8501: rest}, idle)
        pod.mount(files)
        file = {"serving": "models.config", "candidate": "candidate.config"}[deployment]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "deploy.local"),
                    f"--model_config_file={folder / file}",
                    "--model_config_file_poll_wait_seconds=1",
                    "--allow_version_labels_for_unavailable_models=true",
                    f"--port={grpc}",
                    f"--rest_api_port={rest}",
                ],
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return pod

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


@pytest.fixture(scope="module")
def served(
    kubectl: str, published: Version, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    models = folder / "models"
    for number in (1, 2, 3):
        shutil.copytree(published.path, models / "mnist" / str(number))
    golden = models / "mnist" / "3" / "assets.extra" / "golden.npz"
    with np.load(golden) as file:
        arrays = dict(file)
    arrays["probabilities"] = arrays["probabilities"][:, ::-1]  # of another model
    np.savez_compressed(golden, allow_pickle=False, **arrays)
    pods = Pods(folder, models)
    api = Api(NAMESPACE, pods)
    for name, files in (
        ("models", {"models.config": MODELS}),
        ("canary", {"candidate.config": EMPTY}),
    ):
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        api.put("configmaps", {**made, "data": files})
    with secrets_in(folder):
        for name in NAMES:
            keys.create(name)
        text = base64.b64encode((secret_files.gateway() / "keys.conf").read_bytes()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gateway-keys"}}
    api.put("secrets", {**secret, "data": {"keys.conf": text}})
    api.deployment("serving", 2)
    api.deployment("candidate", 1)
    with reached(api, kubectl, folder) as cluster:
        yield Cluster(api, {**cluster.environment, "MODELS": str(models)})
    pods.end()


@pytest.fixture
def cluster(served: Cluster) -> Iterator[Cluster]:
    """Version 1 is live; what a test tries is over after it."""
    yield served
    over = served("promote", "1", "--grace=0", "--kubernetes")
    if over.returncode:
        over = served("rollback", "--kubernetes")
    assert over.returncode == 0, over.stderr
    _nobody_is_tried(served)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Measured]:
    with measured(tmp_path, {"namespace": NAMESPACE}) as made:
        yield made


def _nobody_is_tried(cluster: Cluster) -> None:
    assert cluster.api.file("canary", "canary.config") is None
    assert cluster.api.file("canary", "candidate.config") == EMPTY
    assert _answers(cluster, "candidate") == []


def _answers(cluster: Cluster, deployment: str) -> list[int]:
    """The version by which each pod answers who names none."""
    found = []
    for name, running in cluster.api.pods.items():
        if name.startswith(f"{deployment}-"):
            with ServingClient(f"http://127.0.0.1:{running.port(8501)}", model="mnist") as serving:
                found.append(serving.metadata().version)
    return found


def test_a_share_of_the_callers_is_sent_to_a_candidate(cluster: Cluster) -> None:
    on = ["--kubernetes", "--why=a try"]
    said = cluster.done("canary", "2", "--percent", "25", *on)
    assert said == "mnist: 25 % of the callers are sent to 2\n"
    # The gateway's own rules; tests/deploy/test_gateway_canary.py has what comes of them.
    assert cluster.api.file("canary", "canary.config") == sharing.text("mnist", 2, 25, NAMES)
    assert _answers(cluster, "candidate") == [2]
    assert _answers(cluster, "serving") == [1, 1]
    cluster.done("canary", "2", "--percent", "50", *on)
    assert cluster.api.file("canary", "canary.config") == sharing.text("mnist", 2, 50, NAMES)
    for command in (["promote", "3"], ["canary", "3", "--percent=9"]):
        assert "run `promote 2" in cluster.refused(*command, "--kubernetes")
    assert cluster.done("rollback", "--kubernetes") == "mnist: 1 is live\n"
    _nobody_is_tried(cluster)
    told = json.loads(cluster.done("history", "--json", "--kubernetes"))["releases"]
    assert [(one["outcome"], one["why"]) for one in told] == [
        ("25 % of the callers", "a try"),
        ("50 % of the callers", "a try"),
        ("done", ""),
    ]


def test_one_that_answers_otherwise_than_it_must_gets_no_caller(cluster: Cluster) -> None:
    for command in (["canary", "3", "--percent", "50"], ["promote", "3"]):
        said = cluster.refused(*command, "--kubernetes")
        assert "output probabilities differs in" in said
        _nobody_is_tried(cluster)
        assert _answers(cluster, "serving") == [1, 1]


def test_one_that_does_well_becomes_live_by_steps(cluster: Cluster, watched: Measured) -> None:
    steps = ["--steps", "25,50", "--every", "10", "--grace", "0"]
    with going_on(watched):
        prometheus = f"--prometheus=http://localhost:{watched.port}"
        said = cluster("canary", "2", *steps, prometheus, "--kubernetes")
    assert said.returncode == 0, said.stderr
    assert said.stdout == "mnist: 2 is live\n"
    assert "of the answers went to other classes" in said.stderr
    assert _answers(cluster, "serving") == [2, 2]
    _nobody_is_tried(cluster)


def test_one_that_is_worse_on_live_traffic_is_taken_back(
    cluster: Cluster, watched: Measured
) -> None:
    steps = ["--steps", "25,50", "--every", "10"]
    with going_on(watched, candidate={"answers": [7] * 10}):
        prometheus = f"--prometheus=http://localhost:{watched.port}"
        said = cluster.refused("canary", "2", *steps, prometheus, "--kubernetes")
    assert said.startswith("python -m deploy: version 2 of mnist was withdrawn: at 25 % of")
    _nobody_is_tried(cluster)


def test_what_other_namespaces_do_is_not_measured(cluster: Cluster, tmp_path: Path) -> None:
    with measured(tmp_path, {"namespace": "other"}) as other:
        with going_on(other):
            prometheus = f"--prometheus=http://localhost:{other.port}"
            steps = ["--steps", "25", "--every", "2"]
            said = cluster.refused("canary", "2", *steps, prometheus, "--kubernetes")
    assert "too few requests of the candidate: 0" in said


def test_what_was_live_before_is_live_again(cluster: Cluster) -> None:
    assert cluster.done("promote", "2", "--grace=0", "--kubernetes") == "mnist: 2 is live\n"
    assert _answers(cluster, "serving") == [2, 2]
    assert cluster.done("rollback", "--kubernetes") == "mnist: 1 is live\n"
    assert _answers(cluster, "serving") == [1, 1]


def test_golden_answers_lie_on_this_machine_or_are_done_without(
    cluster: Cluster, tmp_path: Path
) -> None:
    canary = ["canary", "2", "--percent=50", "--kubernetes"]
    said = cluster.refused(*canary, MODELS=str(tmp_path))
    assert "the versions of mnist are not on this machine; --without-golden" in said
    cluster.done(*canary, "--without-golden", MODELS=str(tmp_path))
    assert _answers(cluster, "candidate") == [2]


def test_who_writes_at_the_same_time_is_not_written_over(cluster: Cluster) -> None:
    theirs = f"{cluster.api.file('models', 'models.config')}\n"

    def write() -> None:
        cluster.api.before_write = lambda: None
        found = cluster.api.objects["configmaps", "models"]
        cluster.api.put("configmaps", {**found, "data": {"models.config": theirs}})

    cluster.api.before_write = write
    said = cluster.refused("promote", "2", "--grace=0", "--kubernetes")
    assert "another command changes what is served at this moment" in said
    assert cluster.api.file("models", "models.config") == theirs


def test_without_a_deployment_of_candidates_it_says_what_makes_one(
    cluster: Cluster,
) -> None:
    gone = cluster.api.objects.pop(("deployments", "candidate"))
    try:
        said = cluster.refused("canary", "2", "--percent=50", "--kubernetes")
    finally:
        cluster.api.put("deployments", gone)
    assert f"namespace {NAMESPACE} has no Deployment candidate; `kubectl apply" in said
    assert "overlays/canary --selector app.kubernetes.io/component=candidate` makes it" in said


def test_of_a_cluster_without_servers_it_says_what_starts_them(
    kubectl: str, tmp_path: Path
) -> None:
    api = Api(NAMESPACE)
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "models"}}
    api.put("configmaps", {**made, "data": {"models.config": MODELS}})
    with reached(api, kubectl, tmp_path) as cluster:
        said = cluster.refused("promote", "2", "--kubernetes", "--without-golden")
    assert "no server runs" in said
    assert "kubectl apply --server-side -k" in said
