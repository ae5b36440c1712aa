"""A namespace of a cluster as the place of a release: Deployments, and ConfigMaps.

The gateway sends callers to the candidate by its own rules, as on one machine: by key, the same
ones every time, over gRPC as over REST. A release writes what its pods and the servers' read.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy import model_config
from deploy import served as answers
from deploy.model_config import Model
from deploy.operate import interrupts
from deploy.operate.access import keys
from deploy.operate.cluster.kubectl import LABELS, Conflict, Kubectl, Object
from deploy.operate.cluster.secrets import GATEWAY, Secrets
from deploy.operate.errors import Refused
from deploy.operate.stack import served
from deploy.operate.stack.served import CANARY, CANDIDATE, MODELS
from deploy.release import history
from deploy.release.place import SERVING, Place
from deploy.release.replicas import Replica
from deploy.served import Difference, Served

_RELEASES, _LINES = "releases", "releases.jsonl"
_KEPT = 2000  # lines of the history: a ConfigMap holds a mebibyte
_TRIES = 20
# File → the ConfigMap that holds it, the Deployments that read it, and what it is without a canary.
_FILES: Mapping[str, tuple[str, tuple[str, ...], str | None]] = {
    MODELS: ("models", (SERVING, GATEWAY), None),
    CANDIDATE: ("canary", ("candidate",), "model_config_list {}"),
    CANARY: ("canary", (GATEWAY,), None),
}
_PORTS = (8500, 8501)
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")
_FORWARDING = 30.0  # seconds that it may take
_AGAIN = 1.0  # seconds until it is tried again


class Releases:
    """The history of a namespace, for all who release there: a ConfigMap."""

    def __init__(self, kubectl: Kubectl) -> None:
        """Args: the namespace's."""
        self._kubectl = kubectl

    def read(self) -> str:
        """All lines that are kept."""
        return _data(self._kubectl.read("configmap", _RELEASES)).get(_LINES, "")

    def add(self, line: str) -> None:
        """Add one, and no other writer's is lost.

        Raises:
            Refused: others write all the time.
        """
        for _ in range(_TRIES):
            found = self._kubectl.read("configmap", _RELEASES) or _config_map(_RELEASES)
            lines = [*_data(found).get(_LINES, "").splitlines(), line][-_KEPT:]
            text = "".join(f"{each}\n" for each in lines)
            with contextlib.suppress(Conflict):
                self._kubectl.write({**found, "data": {_LINES: text}})
                return
        raise Refused(f"ConfigMap {_RELEASES}: others write it at the same time; try again")


@dataclass
class Cluster(Place):
    """One model of a namespace.

    Attributes:
        kubectl: the namespace's.
    """

    kubectl: Kubectl
    _maps: dict[str, Object | None] = field(default_factory=dict)
    _forwards: dict[str, _Forward] = field(default_factory=dict)

    start_servers = "kubectl apply --server-side -k deploy/kubernetes/overlays/canary"
    drain = 15

    @property
    def log(self) -> history.Log:
        """The namespace's."""
        return Releases(self.kubectl)

    @property
    def within(self) -> str:
        """The namespace."""
        return self.kubectl.namespace

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Change what is there now; a change in between is noticed at the write."""
        self._maps.clear()
        try:
            yield
        except Conflict as conflict:
            raise Refused(
                f"another command changes what is served at this moment ({conflict}); when it has "
                "ended, try again"
            ) from None

    def read(self, file: str) -> str | None:
        """As a ConfigMap holds it; None if it does not, or says as much as nothing."""
        name, _, nothing = _FILES[file]
        text = _data(self._map(name)).get(file)
        return None if text == nothing else text

    def called(self, file: str) -> str:
        """The ConfigMap, and its key."""
        return f"ConfigMap {_FILES[file][0]} of namespace {self.kubectl.namespace}, {file}"

    def write(self, files: Mapping[str, str | None]) -> None:
        """Replace them in the ConfigMaps, and have the pods look.

        Raises:
            Conflict: another has written since this began (`changing`).
        """
        readers: dict[str, None] = {}
        for name in dict.fromkeys(_FILES[file][0] for file in files):
            found = self._map(name) or _config_map(name)
            data = dict(_data(found))
            for file, text in files.items():
                config_map, deployments, nothing = _FILES[file]
                if config_map == name and (new := text or nothing) != data.get(file):
                    data.pop(file, None)
                    data.update({file: new} if new else {})
                    readers.update(dict.fromkeys(deployments))
            if data != _data(found):
                self._maps[name] = self.kubectl.write({**found, "data": data})
        for deployment in readers:
            with contextlib.suppress(Refused):  # without it they look a little later
                self.kubectl.refresh(deployment)

    def versions(self) -> Mapping[int, Path]:
        """None: they lie where the servers see them."""
        return {}

    def folder(self, number: int) -> Path | None:
        """A copy of the version on this machine, for its golden answers; None without one."""
        folder = served.folder_of(self.model().base_path, served.models_folder())
        with contextlib.suppress(OSError):
            return model_config.versions(folder).get(number) if folder else None
        return None

    def callers(self) -> list[str]:
        """The names of the keys that work."""
        return [key.name for key in keys.read(Secrets(self.kubectl)) if not key.ended]

    def running(self, service: str = SERVING) -> list[Replica]:
        """The pods of a Deployment that run, their ports forwarded to this machine."""
        found = []
        for pod in filter(_runs, self.kubectl.pods(service)):
            name = pod["metadata"]["name"]
            try:
                found.append(self._forward(name).replica)
            except Refused:
                if _runs(self.kubectl.read("pod", name) or {}):
                    raise
        return found

    def start(self, service: str) -> None:
        """Have one pod of a Deployment, if it is to have none.

        Raises:
            Refused: there is no such Deployment.
        """
        found = self.kubectl.read("deployment", service)
        if found is None:
            # Its own objects alone: the whole overlay conflicts with the `models` of a release.
            raise Refused(
                f"namespace {self.kubectl.namespace} has no Deployment {service}; "
                f"`{self.start_servers} --selector app.kubernetes.io/component={service}` makes it"
            )
        if not found["spec"].get("replicas"):
            self._scale(service, 1)

    def stop(self, service: str) -> None:
        """Let the Deployment have no pod."""
        self._scale(service, 0)

    def is_starting(self, one: Replica) -> bool:
        """Whether its startup probe has not succeeded yet."""
        pod = self.kubectl.read("pod", one.id) or {}
        containers = pod.get("status", {}).get("containerStatuses", [])
        return any(container.get("started") is False for container in containers)

    def restart(self, one: Replica) -> None:
        """Let its Deployment start another pod in its place."""
        self.kubectl.run("delete", "pod", one.id, "--wait=false")

    def differences(self, model: Model, answer: Served) -> Iterable[Difference]:
        """By the versions that its policy names: which there are, only the servers see."""
        there = answer.available if model.specific is None else model.specific
        return answers.differences_of(model, answer, there)

    def close(self) -> None:
        """End the forwarding of ports."""
        for forward in self._forwards.values():
            forward.end()

    def _scale(self, deployment: str, replicas: int) -> None:
        self.kubectl.run("scale", "deployment", deployment, f"--replicas={replicas}")

    def _map(self, name: str) -> Object | None:
        if name not in self._maps:
            self._maps[name] = self.kubectl.read("configmap", name)
        return self._maps[name]

    def _forward(self, pod: str) -> _Forward:
        known = self._forwards.get(pod)
        if (
            known and known.ended
        ):  # it ends with the first connection that a starting server refuses
            interrupts.pause(_AGAIN)
        if known is None or known.ended:
            known = self._forwards[pod] = _Forward(self.kubectl, pod)
        return known


class _Forward:
    """Ports of a pod, forwarded past every NetworkPolicy as long as it runs.

    Raises:
        Refused: they are not.
    """

    def __init__(self, kubectl: Kubectl, pod: str) -> None:
        # Not a pipe: it says each connection, and nobody reads for long.
        self._said: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`end` closes it)
        ports = (f":{port}" for port in _PORTS)
        command = kubectl.command("port-forward", "--address=127.0.0.1", f"pod/{pod}", *ports)
        self._process = subprocess.Popen(command, stdout=self._said, stderr=subprocess.STDOUT)
        begun = time.monotonic()
        while len(found := dict(_FORWARDED.findall(said := self._read()))) < len(_PORTS):
            if self.ended or time.monotonic() - begun > _FORWARDING:
                self.end()
                last = " ".join(said.split()) or "kubectl said nothing"
                raise Refused(f"the ports of pod {pod} are out of reach: {last}")
            interrupts.pause(0.02)
        here = {int(inside): port for port, inside in found.items()}
        grpc, rest = (f"127.0.0.1:{here[port]}" for port in _PORTS)
        self.replica = Replica(pod, pod, f"grpc://{grpc}", f"http://{rest}")

    @property
    def ended(self) -> bool:
        """Whether it has, as when the pod is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._said.close()

    def _read(self) -> str:
        self._said.seek(0)
        return self._said.read()


def _runs(pod: Object) -> bool:
    """Whether a pod runs and is to go on; one that is gone does not."""
    ending = "deletionTimestamp" in pod.get("metadata", {})
    return not ending and pod.get("status", {}).get("phase") == "Running"


def _data(config_map: Object | None) -> Mapping[str, str]:
    data: Mapping[str, str] | None = (config_map or {}).get("data")
    return data or {}


def _config_map(name: str) -> Object:
    metadata = {"name": name, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
