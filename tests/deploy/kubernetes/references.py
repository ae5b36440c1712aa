"""Whether what manifests refer to is there: what the API server takes and nobody else tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.deploy.kubernetes.rendering import Object, mounted, pods

# Of no manifest: `python -m deploy keys|certificates --kubernetes`, or cert-manager, writes them.
SECRETS = {
    "gateway-keys": {"keys.conf", "client-ca.pem"},
    "gateway-tls": {"tls.crt", "tls.key", "ca.crt"},
}
# Those that an image or the pod's own memory holds.
_ELSEWHERE = ("/models", "/tmp", "/dev", "/v1", "/monitoring")


def unmet(objects: Sequence[Object]) -> list[str]:
    """A sentence for each reference that leads nowhere."""
    names = [f"{each['kind']} {each['metadata']['name']}" for each in objects]
    wrong = [f"{name}: there are two" for name in {*names} if names.count(name) > 1]
    for name, each in zip(names, objects, strict=True):
        if check := _CHECKS.get(each["kind"]):
            wrong += [f"{name}: {sentence}" for sentence in check(each["spec"], objects)]
    return wrong


def _matching(selector: Mapping[str, Any], objects: Sequence[Object]) -> list[Object]:
    """The pods that a selector means."""
    wanted = selector.get("matchLabels", selector).items()
    return [pod for _, pod in pods(objects) if wanted and wanted <= _labels(pod)]


def _labels(described: Object) -> Any:
    return described["metadata"].get("labels", {}).items()


def _ports(pod: Object) -> set[str | int]:
    found = [port for each in pod["spec"]["containers"] for port in each.get("ports", ())]
    return {port["containerPort"] for port in found} | {port["name"] for port in found}


def _names(kind: str, objects: Sequence[Object]) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def _service(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    if not (found := _matching(spec["selector"], objects)):
        yield f"no pod has the labels {spec['selector']}"
    for port in spec["ports"]:
        if any(port["targetPort"] not in _ports(pod) for pod in found):
            yield f"no port of the pods is {port['targetPort']}"


def _disruptions(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    if not _matching(spec["selector"], objects):
        yield f"no pod has the labels {spec['selector']}"


def _policy(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    meant = _matching(spec["podSelector"], objects)
    if not meant:
        yield f"no pod has the labels {spec['podSelector']}"
    for direction, peers in ("ingress", "from"), ("egress", "to"):
        for rule in spec.get(direction, ()):
            others: list[Object] = []
            for peer in rule.get(peers, ()):
                if "namespaceSelector" not in peer:
                    found = _matching(peer["podSelector"], objects)
                    others += found
                    if not found:
                        yield f"no pod has the labels {peer['podSelector']}"
            for port in rule.get("ports", ()):
                asked = meant if direction == "ingress" else others
                if isinstance(port["port"], str) and any(
                    port["port"] not in _ports(pod) for pod in asked
                ):
                    yield f"no port of the pods is {port['port']}"


def _deployment(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    pod = spec["template"]
    selectors = [spec["selector"]]
    selectors += [each["labelSelector"] for each in pod["spec"]["topologySpreadConstraints"]]
    for selector in selectors:
        if not selector["matchLabels"] or not selector["matchLabels"].items() <= _labels(pod):
            yield f"its pods do not have the labels {selector}"
    yield from _volumes(pod, objects)
    files = mounted(objects, pod)
    for each in pod["spec"]["containers"]:
        yield from _container(each, files, pod)


def _volumes(pod: Object, objects: Sequence[Object]) -> Iterator[str]:
    defined = {each["name"] for each in pod["spec"]["volumes"]}
    used = {mount["name"] for each in pod["spec"]["containers"] for mount in each["volumeMounts"]}
    yield from (f"no volume is named {name}" for name in sorted(used - defined))
    yield from (f"nobody mounts the volume {name}" for name in sorted(defined - used))
    for volume in pod["spec"]["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in _names("PersistentVolumeClaim", objects):
            yield f"no claim is named {claim}"
        for source in volume.get("projected", {}).get("sources", [volume]):
            yield from _source(source, objects)


def _source(source: Object, objects: Sequence[Object]) -> Iterator[str]:
    held = {name: {*each["data"]} for name, each in _names("ConfigMap", objects).items()}
    for kind, known in ("configMap", held), ("secret", SECRETS):
        if (reference := source.get(kind)) is None:
            continue
        name = reference.get("name", reference.get("secretName"))
        if name not in known:
            if not (reference.get("optional") and name == "canary"):
                yield f"no {kind} is named {name}"
        else:
            for item in reference.get("items", ()):
                if item["key"] not in known[name]:
                    yield f"the {kind} {name} has no key {item['key']}"


def _container(each: Object, files: Mapping[str, tuple[str, int]], pod: Object) -> Iterator[str]:
    known = {variable["name"] for variable in each.get("env", ())}
    for variable in each.get("env", ()):
        asked = variable.get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
        if asked:
            part, _, resource = asked.partition(".")
            if resource not in each["resources"].get(part, {}):
                yield f"it has no {asked}"
    commands = [each.get("command", [])]
    for probe in "startupProbe", "readinessProbe", "livenessProbe":
        commands.append(each.get(probe, {}).get("exec", {}).get("command", []))
        for kind in "grpc", "tcpSocket", "httpGet":
            port = each.get(probe, {}).get(kind, {}).get("port")
            if port is not None and port not in _ports(pod):
                yield f"the {probe} asks port {port}, which it does not have"
    for command in commands:
        if command and command[0].startswith("/"):
            _, mode = files.get(command[0], ("", 0))
            if not mode & 0o111:
                yield f"{command[0]} is no program"
    words = [*each.get("args", ()), *(word for command in commands for word in command)]
    for word in words:
        yield from (
            f"no variable is named {name}"
            for name in re.findall(r"\$\((\w+)\)", word)
            if name not in known
        )
        for path in re.findall(r"(?:^|=)(/[\w./-]+)", word):
            if path not in files and not path.startswith(_ELSEWHERE):
                yield f"{path} is not mounted"


def _scaled(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    target = spec["scaleTargetRef"]
    if target["name"] not in _names(target.get("kind", "Deployment"), objects):
        yield f"there is no {target['name']}"


def _monitor(spec: Object, objects: Sequence[Object]) -> Iterator[str]:
    wanted = spec["selector"]["matchLabels"].items()
    services = [
        each["spec"]
        for each in _names("Service", objects).values()
        if wanted <= each["metadata"]["labels"].items()
    ]
    if not services:
        yield f"no service has the labels {spec['selector']}"
    for endpoint in spec["endpoints"]:
        for service in services:
            if endpoint["port"] not in {port["name"] for port in service["ports"]}:
                yield f"no port of the services is {endpoint['port']}"
            for pod in _matching(service["selector"], objects):
                texts = [content for content, _ in mounted(objects, pod).values()]
                path = endpoint.get("path", "/metrics")
                if path != "/metrics" and not any(f'path: "{path}"' in text for text in texts):
                    yield f"the pods have no metrics at {path}"


_CHECKS = {
    "Deployment": _deployment,
    "HorizontalPodAutoscaler": _scaled,
    "NetworkPolicy": _policy,
    "PodDisruptionBudget": _disruptions,
    "ScaledObject": _scaled,
    "Service": _service,
    "ServiceMonitor": _monitor,
}
