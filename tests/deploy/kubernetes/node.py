"""What a node of a cluster does with rendered pods, done by the Docker engine.

Command, arguments, variables, user, mounts, limits, probes and pre-stop waits are those of the
manifests. A file stands for the name service, a proxy for a Service's own address: both know the
pods that are ready, and learn late of those that end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.deploy.kubernetes.rendering import Object, named
from tests.deploy.monitoring.prometheus import until
from tests.deploy.operate.bundle import docker

_LATE = 5  # seconds for which a name service may say what was so: the TTL of a cluster's own


@dataclass(eq=False)
class Pod:
    """A container that runs as a pod of a Deployment is to."""

    deployment: str
    id: str
    address: str
    template: Object
    place: Path

    @property
    def container(self) -> Object:
        (only,) = self.template["spec"]["containers"]
        return dict(only)

    def inside(self, *command: str, timeout: float | None = None) -> tuple[int, str]:
        """Exit status and output of a program in it."""
        done = subprocess.run(
            ["docker", "exec", self.id, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return done.returncode, done.stdout + done.stderr

    def passes(self, probe: str) -> bool:
        """Whether one of its probes succeeds; each of ours is a program, or asks by gRPC."""
        described = self.container[probe]
        timeout = described.get("timeoutSeconds", 1)
        if "exec" in described:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.inside(*described["exec"]["command"], timeout=timeout)[0] == 0
            return False
        request = health_pb2.HealthCheckRequest(service=described["grpc"].get("service", ""))
        with grpc.insecure_channel(f"{self.address}:{described['grpc']['port']}") as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    @property
    def log(self) -> str:
        return docker("logs", self.id)


@dataclass
class Node:
    """The pods that run, and the objects and Secrets that they see.

    Attributes:
        folder: for what is mounted; the claim `models` is `folder/models`.
        network: its name on the engine.
        images: repository → the image that stands in for it.
        objects: what was rendered.
        secrets: name → key → value.
    """

    folder: Path
    network: str
    images: Mapping[str, str]
    objects: Sequence[Object]
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    _offered: list[Pod] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, deployment: str) -> Pod:
        """Run one more pod; it is not ready yet."""
        template = named(self.objects, "Deployment", deployment)["spec"]["template"]
        spec, (container,) = template["spec"], template["spec"]["containers"]
        place = self.folder / f"{deployment}-{next(self._numbers)}"
        self._mount(template, place)
        limits = container["resources"]["limits"]
        variables = {each["name"]: _value(each, limits) for each in container.get("env", ())}
        command, arguments = (
            [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], word) for word in words]
            for words in (container.get("command", ()), container.get("args", ()))
        )
        user = spec["securityContext"]
        security = container["securityContext"]
        self._write_names()
        options = [
            f"--name={self.network}-{place.name}",
            f"--network={self.network}",
            f"--user={user['runAsUser']}:{user['runAsGroup']}",
            *(f"--cap-drop={name}" for name in security["capabilities"]["drop"]),
            *(["--read-only"] if security["readOnlyRootFilesystem"] else ()),
            *(() if security["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
            f"--memory={limits['memory'].rstrip('i')}",
            f"--cpus={min(int(limits['cpu']), os.cpu_count() or 1)}",
            *(f"--env={name}={value}" for name, value in variables.items()),
            *self._mounts(template, place),
            f"--volume={self.folder / 'hosts'}:/etc/hosts:ro",
            *(f"--entrypoint={program}" for program in command[:1]),
        ]
        image = self.images[container["image"].partition(":")[0]]
        started = docker("run", "--detach", *options, image, *command[1:], *arguments)
        address = f'{{{{(index .NetworkSettings.Networks "{self.network}").IPAddress}}}}'
        inspected = docker("inspect", f"--format={address}", started)
        pod = Pod(deployment, started, inspected, template, place)
        self.pods.append(pod)
        return pod

    def offer(self, pod: Pod) -> None:
        """Wait until it is ready, then let Services lead to it."""
        if "startupProbe" in pod.container:
            until(lambda: pod.passes("startupProbe"), f"the start of {pod.deployment}: {pod.log}")
        until(lambda: pod.passes("readinessProbe"), f"{pod.deployment} to be ready: {pod.log}")
        self._offered.append(pod)
        self._write_names()

    def stop(self, pod: Pod) -> int:
        """End a pod as a cluster does, and return its exit status; Services learn of it late."""
        wait = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert wait > _LATE
        time.sleep(_LATE)
        self._offered.remove(pod)
        self._write_names()
        time.sleep(wait - _LATE)
        left = pod.template["spec"]["terminationGracePeriodSeconds"] - wait
        docker("stop", f"--time={left}", pod.id)
        self.pods.remove(pod)
        return int(docker("inspect", "--format={{.State.ExitCode}}", pod.id))

    def refresh(self) -> None:
        """Have all pods see ConfigMaps and Secrets as they are now."""
        for pod in self.pods:
            self._mount(pod.template, pod.place)

    def addresses(self, service: str) -> list[str]:
        """Of the ready pods that a Service selects."""
        selector = named(self.objects, "Service", service)["spec"]["selector"].items()
        return [
            pod.address
            for pod in self._offered
            if selector <= pod.template["metadata"]["labels"].items()
        ]

    def clear(self) -> None:
        """Remove all that is left."""
        names = docker("ps", "--all", "--quiet", f"--filter=network={self.network}").split()
        if names:
            docker("rm", "--force", *names)
        docker("network", "rm", self.network)

    def _write_names(self) -> None:
        """In place, as each pod has this one file."""
        lines = ["127.0.0.1 localhost"]
        for each in self.objects:
            if each["kind"] == "Service":
                name = each["metadata"]["name"]
                headless = each["spec"].get("clusterIP") == "None"
                # One pod stands for an address that leads to any of them.
                meant = self.addresses(name)[: None if headless else 1]
                lines += [f"{address} {name}" for address in meant]
        (self.folder / "hosts").write_text("".join(f"{line}\n" for line in lines))

    def _mount(self, template: Object, place: Path) -> None:
        """Write the files of a pod's volumes; each volume's all at once."""
        for volume in template["spec"]["volumes"]:
            sources = volume.get("projected", {}).get("sources", [volume])
            files: dict[str, tuple[bytes, int]] = {}
            for source in sources:
                files |= self._files(source, volume.get("projected", {}))
            if files or "projected" in volume:
                _swap(place / volume["name"], files)

    def _files(self, source: Object, projected: Object) -> dict[str, tuple[bytes, int]]:
        reference: Object = source.get("configMap") or source.get("secret") or {}
        if not reference:
            return {}
        held = self.secrets if "secret" in source else self._config_maps()
        if reference["name"] not in held:
            assert reference["optional"], f"{reference['name']} is awaited for ever"
            return {}
        data = held[reference["name"]]
        paths = {each["key"]: each["path"] for each in reference.get("items", ())}
        mode = reference.get("defaultMode") or projected.get("defaultMode") or 0o644
        kept = {key: data[key] for key in (paths or data)}
        return {paths.get(key, key): (content, mode) for key, content in kept.items()}

    def _config_maps(self) -> dict[str, dict[str, bytes]]:
        return {
            each["metadata"]["name"]: {key: text.encode() for key, text in each["data"].items()}
            for each in self.objects
            if each["kind"] == "ConfigMap"
        }

    def _mounts(self, template: Object, place: Path) -> Iterator[str]:
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        for mount in container["volumeMounts"]:
            volume, read_only = volumes[mount["name"]], mount.get("readOnly", False)
            if "emptyDir" in volume:
                size = volume["emptyDir"]["sizeLimit"].rstrip("i")
                yield f"--tmpfs={mount['mountPath']}:size={size},mode=0777"
                continue
            claimed = "persistentVolumeClaim" in volume
            source = self.folder / "models" if claimed else place / mount["name"]
            yield f"--volume={source}:{mount['mountPath']}{':ro' if read_only else ''}"


def _swap(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """As a kubelet does: names are links into a folder that is a link itself, which is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    now = folder / f"..{time.time_ns()}"
    now.mkdir()
    for name, (content, mode) in files.items():
        (now / name).write_bytes(content)
        (now / name).chmod(mode)
    (folder / "..next").symlink_to(now.name)
    (folder / "..next").rename(folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for path in folder.iterdir():
        if not path.name.startswith("..") and path.name not in files:
            path.unlink()


def _value(variable: Object, limits: Mapping[str, str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    _, _, resource = variable["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
    return limits[resource]


@contextlib.contextmanager
def node(folder: Path, images: Mapping[str, str], objects: Sequence[Object]) -> Iterator[Node]:
    """A node without pods; all it did is undone in the end."""
    network = f"digits-pods-{os.getpid()}"
    docker("network", "create", network)
    made = Node(folder, network, images, objects)
    try:
        yield made
    finally:
        made.clear()


@contextlib.contextmanager
def address(node: Node, service: str, port: int) -> Iterator[int]:
    """A local port that leads to the pods of a Service, each connection to another one."""
    turns = itertools.count()

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            there = node.addresses(service)
            with (
                contextlib.suppress(OSError),
                socket.create_connection((there[next(turns) % len(there)], port)) as pod,
            ):
                back = threading.Thread(target=_pump, args=(pod, self.request))
                back.start()
                _pump(self.request, pod)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
