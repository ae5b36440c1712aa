"""The rendered pods on a real engine, as a node would run them, with stand-ins for the images."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deploy.operate.access import certificates, keys
from deploy.release import sharing
from tests.conftest import Version
from tests.deploy.gateway import secrets_in
from tests.deploy.kubernetes.node import Node, Pod, address, node
from tests.deploy.kubernetes.rendering import FOLDER, named, objects, own
from tests.deploy.monitoring.prometheus import until
from tests.deploy.operate.bundle import docker
from tfserving_client import AccessDenied, CallError, DigitClient, Policy, Tls

DIGIT = np.zeros((28, 28), np.uint8)
# As callers have it by default, but patient on a busy machine. A gateway that reloads closes its
# connections, and a call that had just been sent on one is sent again.
POLICY = Policy(timeout=60)
KILLED = 137
CERTIFICATE = {"server.pem": "tls.crt", "server.key": "tls.key", "ca.pem": "ca.crt"}


@dataclass
class Cluster:
    """Two servers and two gateways, and the port of the gateways' Service."""

    node: Node
    port: int

    def pods(self, deployment: str) -> list[Pod]:
        return [pod for pod in self.node.pods if pod.deployment == deployment]

    def client(self, scheme: str, key: str) -> DigitClient:
        """At the Service's address, as callers in the cluster have it."""
        tls = Tls(ca=self.node.folder / "secrets" / "gateway" / "ca.pem")
        return DigitClient(f"{scheme}://localhost:{self.port}", api_key=key, tls=tls, policy=POLICY)

    def publish(self, version: Version, number: int) -> None:
        model = self.node.folder / "models" / "mnist"
        shutil.copytree(version.path, model / f".staging-{number}")
        (model / f".staging-{number}").rename(model / str(number))

    def key(self, name: str) -> str:
        """A new one, in the Secret that the gateways mount."""
        with secrets_in(self.node.folder):
            made = keys.create(name).key
        file = self.node.folder / "secrets" / "gateway" / "keys.conf"
        self.node.secrets["gateway-keys"] = {"keys.conf": file.read_bytes()}
        self.node.refresh()
        # One after the other, as connections take turns: all gateways know it.
        turns = self.pods("gateway") * 2
        until(lambda: all(self.answers(made) for _ in turns), "the key at every gateway")
        return made

    def answers(self, key: str) -> bool:
        """Whether the gateway of a new connection does."""
        with self.client("https", key) as digits, contextlib.suppress(CallError):
            return bool(digits.status(timeout=5))
        return False

    def configure(self, name: str, **files: str) -> None:
        """Change a ConfigMap."""
        data = named(self.node.objects, "ConfigMap", name)["data"]
        data.update({key.replace("_", "."): text for key, text in files.items()})
        self.node.refresh()


@pytest.fixture(scope="module")
def cluster(
    stand_in: str,
    nginx: str,
    exporter: str,
    published: Version,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "models" / "mnist").mkdir(parents=True)
    for path in (folder, folder.parent, *(folder / "models").rglob("*"), folder / "models"):
        path.chmod(0o755)  # servers and gateways are other users
    with secrets_in(folder):
        certificates.make()
    files = {name: (folder / "secrets" / "gateway" / name).read_bytes() for name in CERTIFICATE}
    images = {"tensorflow/serving": stand_in, "nginx": nginx, "digits-serving/exporter": exporter}
    rendered = objects(own(tmp_path_factory.mktemp("overlay"), ["monitoring"], "canary"))
    with node(folder, images, rendered) as made, address(made, "gateway", 8443) as port:
        made.secrets["gateway-tls"] = {CERTIFICATE[name]: data for name, data in files.items()}
        cluster = Cluster(made, port)
        cluster.publish(published, 1)
        started = [made.start(name) for name in ("serving", "serving", "gateway", "gateway")]
        for pod in started:
            made.offer(pod)
        yield cluster


@contextlib.contextmanager
def _load(cluster: Cluster, key: str) -> Iterator[Callable[[], int]]:
    """Classify over both protocols; no call may fail. Gives how often it was done."""
    done, failed, stop = Counter[str](), list[Exception](), threading.Event()

    def work(scheme: str) -> None:
        try:
            with cluster.client(scheme, key) as digits:
                while not stop.wait(0.01):
                    digits.classify(DIGIT)
                    done[scheme] += 1
        except Exception as error:
            failed.append(error)

    schemes = ("grpcs", "https") * 2
    threads = [threading.Thread(target=work, args=[scheme]) for scheme in schemes]
    for thread in threads:
        thread.start()
    try:
        yield lambda: min(done["grpcs"], done["https"])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def _goes_on(done: Callable[[], int]) -> None:
    before = done()
    until(lambda: done() > before + 50, "answers")


def test_a_caller_with_a_key_is_answered_over_both_protocols(cluster: Cluster) -> None:
    key = cluster.key("alice")
    for scheme in "grpcs", "https":
        with cluster.client(scheme, key) as digits:
            assert len(digits.classify(DIGIT)) == 1
        with cluster.client(scheme, "dk_unknown") as stranger, pytest.raises(AccessDenied):
            stranger.classify(DIGIT)


def test_the_ports_without_a_key_are_for_the_gateways_own_pod(cluster: Cluster) -> None:
    for pod in cluster.pods("gateway"):
        for port in 8500, 8501:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((pod.address, port), timeout=10)
            within = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
            assert pod.inside("bash", "-c", within)[0] == 0


@pytest.mark.parametrize("deployment", ["serving", "gateway"])
def test_a_pod_can_write_to_its_memory_alone(cluster: Cluster, deployment: str) -> None:
    pod = cluster.pods(deployment)[0]
    for mount in pod.container["volumeMounts"]:
        status, _ = pod.inside("touch", f"{mount['mountPath']}/x")
        assert (status == 0) == (not mount.get("readOnly")), mount
    assert pod.inside("touch", "/usr/x")[0] != 0
    assert pod.inside("id", "-u")[1].strip() not in ("", "0")


def test_probes_say_what_they_can_tell(cluster: Cluster) -> None:
    """While a model is waited for, a server lives and is not ready; callers are answered on."""
    key = cluster.key("bob")
    (cluster.node.folder / "models" / "empty").mkdir()
    pod = cluster.pods("serving")[0]
    assert all(pod.passes(probe) for probe in ("startupProbe", "livenessProbe", "readinessProbe"))
    cluster.configure("models", models_config=_models(_configured(), _configured(name="empty")))
    try:
        until(lambda: not pod.passes("readinessProbe"), "a pod that is not ready")
        assert pod.passes("livenessProbe")
        with cluster.client("grpcs", key) as digits:
            assert len(digits.classify(DIGIT)) == 1
    finally:
        cluster.configure("models", models_config=_models(_configured()))
    until(lambda: all(each.passes("readinessProbe") for each in cluster.pods("serving")), "ready")


def _configured(policy: str = "", name: str = "mnist") -> str:
    return f"""config {{
      name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" {policy}
    }}"""


def _models(*configured: str) -> str:
    return f"model_config_list {{ {' '.join(configured)} }}"


def _only(version: int) -> str:
    """The configuration with one version of the model."""
    return _models(_configured(f"model_version_policy {{ specific {{ versions: {version} }} }}"))


def test_a_new_version_and_a_rollback_by_the_config_map(
    cluster: Cluster, published: Version
) -> None:
    key = cluster.key("carol")
    cluster.publish(published, 2)
    with cluster.client("grpcs", key) as digits:
        until(lambda: _versions(digits) == {2}, "version 2")
        cluster.configure("models", models_config=_only(1))
        until(lambda: _versions(digits) == {1}, "the rollback")
        cluster.configure("models", models_config=_models(_configured()))
        until(lambda: _versions(digits) == {2}, "version 2 again")


def _versions(digits: DigitClient) -> set[int | None]:
    """That answer; each call another server's."""
    return {digits.classify(DIGIT).version for _ in range(8)}


def test_servers_that_are_rolled_under_load_fail_no_call(cluster: Cluster) -> None:
    key = cluster.key("dave")
    with _load(cluster, key) as done:
        _goes_on(done)
        new = cluster.node.start("serving")
        cluster.node.offer(new)
        old = cluster.pods("serving")[0]
        assert cluster.node.stop(old) != KILLED
        _goes_on(done)
        assert len(cluster.node.addresses("serving")) == 2


def test_gateways_that_are_rolled_under_load_fail_no_call(cluster: Cluster) -> None:
    key = cluster.key("erin")
    with _load(cluster, key) as done:
        _goes_on(done)
        new = cluster.node.start("gateway")
        cluster.node.offer(new)
        assert cluster.node.stop(cluster.pods("gateway")[0]) == 0
        _goes_on(done)


def test_a_candidate_answers_its_share_and_then_nobody(
    cluster: Cluster, published: Version
) -> None:
    sides = {name: cluster.key(name) for name in ("candidate-caller", "stable-caller")}
    number = 7
    cluster.publish(published, number)
    try:
        cluster.configure("models", models_config=_only(1))
        candidate = cluster.node.start("candidate")
        until(lambda: candidate.passes("startupProbe"), "a candidate without a model")
        assert not candidate.passes("readinessProbe")
        cluster.configure("canary", candidate_config=_only(number))
        cluster.node.offer(candidate)
        until(lambda: _by_version(cluster, sides) == dict.fromkeys(sides, 1), "version 1 again")
        share = sharing.text("mnist", number, 50, [*sides])
        chosen = {line.split()[0] for line in share.splitlines()[1:] if line.endswith("candidate")}
        expected = {name: number if name in chosen else 1 for name in sides}
        assert {*expected.values()} == {1, number}
        cluster.configure("canary", canary_config=share)
        until(lambda: _by_version(cluster, sides) == expected, "the share")
        del named(cluster.node.objects, "ConfigMap", "canary")["data"]["canary.config"]
        cluster.node.refresh()
        until(lambda: _by_version(cluster, sides) == dict.fromkeys(sides, 1), "the end of it")
    finally:
        cluster.configure("models", models_config=_models(_configured()))


def _by_version(cluster: Cluster, callers: Mapping[str, str]) -> dict[str, int]:
    """Name → the one version that answers it; 0 while there are several."""
    found = {}
    for name, key in callers.items():
        with cluster.client("grpcs", key) as digits:
            versions = _versions(digits)
        found[name] = (versions.pop() or 0) if len(versions) == 1 else 0
    return found


def test_the_exporter_counts_what_the_gateways_tell_it(cluster: Cluster) -> None:
    key = cluster.key("frank")
    exporter = cluster.node.start("exporter")
    cluster.node.offer(exporter)

    def told() -> str:
        with cluster.client("grpcs", key) as digits:
            digits.classify(DIGIT)
        with urllib.request.urlopen(f"http://{exporter.address}:9100/metrics", timeout=60) as page:
            return str(page.read().decode())

    until(lambda: 'key="frank"' in told(), "a request that was counted")
    up = re.findall(r"^digits_replica_up.* (\d)\.0$", told(), re.MULTILINE)
    assert up == ["1"] * len(cluster.node.addresses("serving"))
    assert "digits_certificate_expiry_timestamp_seconds" in told()


def test_models_baked_into_an_image_are_where_the_server_looks(
    stand_in: str, published: Version, tmp_path: Path
) -> None:
    shutil.copytree(published.path, tmp_path / "mnist" / "1")
    base, made = "tensorflow/serving:stand-in", "digits-serving/baked:test"
    docker("tag", stand_in, base)
    try:
        file = f"--file={FOLDER / 'Dockerfile'}"
        version = "--build-arg=TFS_VERSION=stand-in"
        docker("build", "--quiet", file, version, f"--tag={made}", str(tmp_path))
        found = docker("run", "--rm", "--entrypoint=ls", "--user=10001", made, "/models/mnist/1")
        assert "saved_model.pb" in found
    finally:
        docker("rmi", base, made)
