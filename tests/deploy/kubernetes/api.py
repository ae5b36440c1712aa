"""A Kubernetes API of the few paths that `python -m deploy … --kubernetes` needs.

No registry that this project uses has a cluster to start: neither an API server nor a node. So who
asks is the real kubectl, and what answers is this: objects with resource versions, conflicts and
refusals in the API's words, pods of Deployments, forwarded ports. Pods see what a ConfigMap holds
when they start and when something about them is changed, as with a kubelet that is never due.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from tests.deploy.kubernetes.spdy import Tunnel

Object = dict[str, Any]

_KINDS = {
    "v1": {
        "namespaces": "Namespace",
        "pods": "Pod",
        "secrets": "Secret",
        "configmaps": "ConfigMap",
    },
    "apps/v1": {"deployments": "Deployment"},
}
_VERBS = ["create", "delete", "get", "list", "patch", "update"]
_PATH = re.compile(
    r"/(?:api/v1|apis/apps/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>\w+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>\w+))?"
)


class Running(Protocol):
    """What runs in a pod."""

    def started(self) -> bool:
        """Whether its startup probe has succeeded."""

    def port(self, inside: int) -> int:
        """The port of this machine that is one of the pod's."""

    def mount(self, files: dict[str, str]) -> None:
        """Let it see these files, of all ConfigMaps."""

    def stop(self) -> None:
        """End it."""


@dataclass
class Api:
    """What a cluster has.

    Attributes:
        namespace: the only one.
        start: runs a pod of a Deployment, by the Deployment's name; sees the files at once.
        forbidden: verbs and resources, as `update secrets`, that the caller has no role for.
        before_write: called before each object is replaced, outside of what keeps others out.
    """

    namespace: str
    start: Callable[[str, dict[str, str]], Running] | None = None
    forbidden: set[str] = field(default_factory=set)
    before_write: Callable[[], object] = lambda: None
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    pods: dict[str, Running] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _version: int = 0

    def put(self, resource: str, made: Object) -> Object:
        """Have an object, of any resource version, as if somebody had written it just now."""
        with self.lock:
            self._version += 1
            made = copy.deepcopy(made)
            made["metadata"].update(namespace=self.namespace, resourceVersion=str(self._version))
            self.objects[resource, made["metadata"]["name"]] = made
            if resource == "deployments":
                self._scale(made)
            return made

    def file(self, config_map: str, name: str) -> str | None:
        """What a ConfigMap holds under a key; None without it."""
        data: dict[str, str] = self.objects.get(("configmaps", config_map), {}).get("data", {})
        return data.get(name)

    def deployment(self, name: str, replicas: int) -> None:
        """Have one, whose pods carry a label that is called otherwise than it."""
        selector = {"matchLabels": {"component": f"its-{name}"}}
        self.put(
            "deployments",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {"replicas": replicas, "selector": selector},
            },
        )

    def files(self) -> dict[str, str]:
        """What pods see that look now."""
        maps = [one for (kind, _), one in self.objects.items() if kind == "configmaps"]
        return {name: text for one in maps for name, text in (one.get("data") or {}).items()}

    def end(self) -> None:
        """End all pods."""
        for running in self.pods.values():
            running.stop()

    def pod(self, name: str) -> Object:
        """As the API shows it now."""
        found = self.objects["pods", name]
        if name in self.pods:
            started = self.pods[name].started()
            status = {"name": "it", "started": started, "ready": started}
            found["status"] = {"phase": "Running", "containerStatuses": [status]}
        return found

    def _scale(self, deployment: Object) -> None:
        name, labels = deployment["metadata"]["name"], deployment["spec"]["selector"]["matchLabels"]
        ours = [pod for kind, pod in self.objects if kind == "pods" and pod.startswith(f"{name}-")]
        for pod in ours[deployment["spec"]["replicas"] :]:
            self.remove_pod(pod)
        for _ in range(deployment["spec"]["replicas"] - len(ours)):
            pod = f"{name}-{self._version + 1}"
            metadata = {"name": pod, "labels": labels}
            self.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
            if self.start:
                self.pods[pod] = self.start(name, self.files())

    def remove_pod(self, name: str) -> None:
        """It ends, and its Deployment is not asked for another."""
        del self.objects["pods", name]
        if running := self.pods.pop(name, None):
            running.stop()


class _Refusal(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        if "portforward" in self.path:
            self._forward()
        else:
            self._answer(self._create)

    def do_PUT(self) -> None:
        self._answer(self._replace)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, work: Callable[[], Object]) -> None:
        # A socket that stays open needs every body read.
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else {}
        self.api.asked.append(f"{self.command} {self.path}")
        code = 201 if self.command == "POST" else 200
        try:
            self._expect_allowed()
            answer = work()
        except _Refusal as refusal:
            code = refusal.code
            answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
            answer |= {"reason": refusal.reason, "message": refusal.message}
        sent = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def _expect_allowed(self) -> None:
        if found := _PATH.fullmatch(urlsplit(self.path).path):
            resource, sub = found["resource"], found["sub"]
            verb = {"POST": "create", "PUT": "update", "GET": "get"}.get(self.command)
            verb = verb or self.command.lower()
            if f"{verb} {resource}{f'/{sub}' if sub else ''}" in self.api.forbidden:
                raise _Refusal(
                    403,
                    "Forbidden",
                    f'{resource} "{found["name"]}" is forbidden: User "ann" cannot {verb} resource '
                    f'"{resource}" in API group "" in the namespace "{found["namespace"]}"',
                )

    def _which(self) -> tuple[str, str, str]:
        """Resource, name and subresource of the path."""
        found = _PATH.fullmatch(urlsplit(self.path).path)
        if not found:
            raise _Refusal(404, "NotFound", "the server could not find the requested resource")
        resource, name, sub = (found[group] or "" for group in ("resource", "name", "sub"))
        if resource == "namespaces" and not name:
            name = found["namespace"]
        return resource, name, sub

    def _found(self, resource: str, name: str) -> Object:
        here = f"/namespaces/{self.api.namespace}/" in f"{self.path}/"
        if not here or (resource, name) not in self.api.objects:
            raise _Refusal(404, "NotFound", f'{resource} "{name}" not found')
        return self.api.pod(name) if resource == "pods" else self.api.objects[resource, name]

    def _get(self) -> Object:
        path = urlsplit(self.path).path.rstrip("/")
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            version = {"groupVersion": "apps/v1", "version": "v1"}
            group = {"name": "apps", "versions": [version], "preferredVersion": version}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
        for group_version, resources in _KINDS.items():
            if path in (f"/api/{group_version}", f"/apis/{group_version}"):
                return _resources(group_version, resources)
        with self.api.lock:
            if asked := re.fullmatch("/api/v1/namespaces/([^/]+)", path):
                if asked[1] != self.api.namespace:
                    raise _Refusal(404, "NotFound", f'namespaces "{asked[1]}" not found')
                metadata = {"name": asked[1]}
                return {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}
            resource, name, sub = self._which()
            if name:
                found = self._found(resource, name)
                return _scale(found) if sub == "scale" else found
            return self._list(resource)

    def _list(self, resource: str) -> Object:
        query = parse_qs(urlsplit(self.path).query)
        wanted = [one for one in query.get("labelSelector", [""])[0].split(",") if one]
        items = [
            self._found(kind, name)
            for (kind, name), one in self.api.objects.items()
            if kind == resource
            and all(
                one["metadata"].get("labels", {}).get(label) == value
                for label, _, value in (each.partition("=") for each in wanted)
            )
        ]
        metadata = {"resourceVersion": "1"}
        return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}

    def _create(self) -> Object:
        resource, _, _ = self._which()
        with self.api.lock:
            if f"/namespaces/{self.api.namespace}/" not in self.path:
                namespace = self.path.split("/")[4]
                raise _Refusal(404, "NotFound", f'namespaces "{namespace}" not found')
            name = self.body["metadata"]["name"]
            if (resource, name) in self.api.objects:
                raise _Refusal(409, "AlreadyExists", f'{resource} "{name}" already exists')
            return self.api.put(resource, self.body)

    def _replace(self) -> Object:
        self.api.before_write()
        resource, name, sub = self._which()
        with self.api.lock:
            found = self._found(resource, name)
            if sub == "scale":
                return self._scaled(found)
            asked = self.body["metadata"].get("resourceVersion")
            if asked not in (None, found["metadata"]["resourceVersion"]):
                raise _Refusal(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {resource} "{name}": the object has been '
                    "modified; please apply your changes to the latest version and try again",
                )
            return self.api.put(resource, self.body)

    def _scaled(self, found: Object) -> Object:
        spec = {**found["spec"], "replicas": self.body["spec"]["replicas"]}
        return _scale(self.api.put("deployments", {**found, "spec": spec}))

    def _patch(self) -> Object:
        resource, name, sub = self._which()
        with self.api.lock:
            found = self._found(resource, name)
            if sub == "scale":
                return self._scaled(found)
            metadata = {**found["metadata"], **self.body["metadata"]}
            patched = self.api.put(resource, {**found, "metadata": metadata})
            if running := self.api.pods.get(name):
                running.mount(self.api.files())
            return patched

    def _delete(self) -> Object:
        resource, name, _ = self._which()
        with self.api.lock:
            gone = copy.deepcopy(self._found(resource, name))
            self.api.remove_pod(name)
            deployment = self.api.objects["deployments", name.rpartition("-")[0]]
            self.api.put("deployments", deployment)
            return gone

    def _forward(self) -> None:
        _, name, _ = self._which()
        if self.headers.get("Upgrade", "").lower() != "spdy/3.1" or name not in self.api.pods:
            self._answer(lambda: self._found("pods", name))
            return
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "SPDY/3.1")
        self.send_header("X-Stream-Protocol-Version", "portforward.k8s.io")
        self.end_headers()
        self.close_connection = True
        Tunnel(self.rfile, self.connection, self.api.pods[name].port).carry()


def _resources(group_version: str, resources: dict[str, str]) -> Object:
    listed: list[Object] = [
        {"name": name, "kind": kind, "namespaced": kind != "Namespace", "verbs": _VERBS}
        for name, kind in resources.items()
    ]
    if "deployments" in resources:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        listed.append({"name": "deployments/scale", "namespaced": True, "verbs": _VERBS, **scale})
    about = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version}
    return {**about, "resources": listed}


def _scale(deployment: Object) -> Object:
    names = ("name", "namespace", "resourceVersion")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: deployment["metadata"][name] for name in names},
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {"replicas": deployment["spec"]["replicas"]},
    }


@contextlib.contextmanager
def answering(api: Api, folder: Path) -> Iterator[Path]:
    """Let it answer; the kubeconfig, written into a folder, by which it is found."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    config = folder / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_port}"},
                    }
                ],
                "users": [{"name": "ann", "user": {}}],
                "contexts": [
                    {
                        "name": "test",
                        "context": {"cluster": "test", "user": "ann", "namespace": api.namespace},
                    }
                ],
            }
        )
    )
    try:
        yield config
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        api.end()
