"""The manifests and the compose files, side by side: neither changes without the other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.local.flags import parse
from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes.rendering import (
    Object,
    container,
    mounted,
    named,
    overlay,
    pods,
)

# The limit of a pod's processor decides; a container of Compose's has the whole machine.
DIFFERENT = "tensorflow_session_parallelism"
DEVICES = ("cpu", "gpu")
SERVICES = ("serving", "gateway")


class _Compose(yaml.SafeLoader):  # type: ignore[misc]  # it ships no type information
    """Reads compose files, which say `!reset` of what they take away."""


_Compose.add_constructor("!reset", lambda *_: None)


def _services(name: str) -> Any:
    text = (ROOT / "deploy" / name).read_text()
    return yaml.load(text, _Compose)["services"]


def _compose(service: str, device: str = "cpu") -> Object:
    found = {**_services("docker-compose.yml")[service]}
    if service == "serving":
        of_device = _services(f"docker-compose.{device}.yml")
        found |= of_device.get("on-gpu", of_device["serving"])
    return found


def _default(text: str) -> str:
    """What Compose makes of `${NAME:-default}` where nothing is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def _pod(service: str, device: str = "cpu") -> Object:
    return dict(pods(overlay(device)))[service]


def _bytes(size: str) -> int:
    number, unit = re.findall(r"(\d+)([kmg]|[KMG]i)", size)[0]
    return int(number) << {"k": 10, "m": 20, "g": 30}[unit[0].lower()]


@pytest.mark.parametrize("device", DEVICES)
def test_flags_are_the_same(device: str) -> None:
    compose, pod = _compose("serving", device), container(overlay(device), "serving")
    start, *flags = map(_default, compose["entrypoint"])
    assert pod["command"] == [start, *flags]
    ours, theirs = ([word.partition("=")[::2] for word in flags] for flags in _args(compose, pod))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    different = {name for (name, a), (_, b) in zip(ours, theirs, strict=True) if a != b}
    assert different == {f"--{DIFFERENT}"}
    cores = pod["resources"]["limits"]["cpu"]
    args = [word.replace("$(CPUS)", cores) for word in (*pod["command"][1:], *pod["args"])]
    parsed, unknown = parse(args)
    assert (getattr(parsed, DIFFERENT), unknown) == (int(cores), [])


def _args(compose: Object, pod: Object) -> tuple[list[str], list[str]]:
    return compose["command"], pod["args"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("device", DEVICES)
def test_users_limits_and_variables_are_the_same(service: str, device: str) -> None:
    compose, pod = _compose(service, device), container(overlay(device), service)
    context = _pod(service, device)["spec"]["securityContext"]
    assert compose["user"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert _bytes(pod["resources"]["limits"]["memory"]) == _bytes(_default(compose["mem_limit"]))
    variables = {each["name"]: each["value"] for each in pod["env"] if "value" in each}
    variables.pop("LOCAL_ADDRESS", None)
    assert variables == {name: _default(value) for name, value in compose["environment"].items()}


@pytest.mark.parametrize("service", SERVICES)
def test_mounts_are_the_same(service: str) -> None:
    compose, template = _compose(service), _pod(service)
    read = {volume.split(":")[-2].rpartition("}")[2]: volume for volume in compose["volumes"]}
    (only,) = template["spec"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in only["volumeMounts"]}
    memory = {mount["mountPath"]: mount["name"] for mount in mounts.values() if _written(mount)}
    assert mounts.keys() - memory.keys() == read.keys()
    tmpfs = compose["tmpfs"] if isinstance(compose["tmpfs"], list) else [compose["tmpfs"]]
    sizes = {path: _bytes(options) for path, _, options in (each.partition(":") for each in tmpfs)}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    limits = {path: volumes[name]["emptyDir"] for path, name in memory.items()}
    assert {path: _bytes(limit["sizeLimit"]) for path, limit in limits.items()} == sizes
    assert {limit["medium"] for limit in limits.values()} == {"Memory"}


def _written(mount: Object) -> bool:
    return not mount.get("readOnly")


@pytest.mark.parametrize("service", SERVICES)
def test_files_are_the_very_same(service: str) -> None:
    folders = {"/gateway": "gateway", "/serving": "serving", "/usr/share/page": "page"}
    files = mounted(overlay("cpu"), _pod(service))
    assert "/config/models.config" in files
    for path, (text, mode) in files.items():
        folder, _, name = path.rpartition("/")
        source = ROOT / "deploy" / folders.get(folder, "server") / name
        assert text == source.read_text(), path
        assert bool(mode & 0o111) or not source.stat().st_mode & 0o111, path


@pytest.mark.parametrize("service", SERVICES)
def test_health_is_asked_in_the_same_way(service: str) -> None:
    compose, probe = _compose(service)["healthcheck"], container(overlay("cpu"), service)
    ready = probe["readinessProbe"]
    _, *command = compose["test"]
    assert ready["exec"]["command"] == command
    assert compose["interval"] == f"{ready['periodSeconds']}s"
    assert compose["timeout"] == f"{ready['timeoutSeconds']}s"
    assert compose["retries"] == ready.get("failureThreshold", 3)


def test_ports_are_the_same() -> None:
    published = [port.rpartition(":")[2] for port in _compose("gateway")["ports"]]
    tls_port, *local = map(int, published)
    (port,) = named(overlay("cpu"), "Service", "gateway")["spec"]["ports"]
    assert port["port"] == tls_port
    assert [each["containerPort"] for each in container(overlay("cpu"), "gateway")["ports"]] == [
        tls_port
    ]
    served = [each["containerPort"] for each in container(overlay("cpu"), "serving")["ports"]]
    assert served == local
    script, rules = ((ROOT / "deploy" / "gateway" / name).read_text() for name in _RULES)
    assert re.findall(r"(?:grpc|rest):(\d+)", script) == [str(each) for each in local]
    assert f"listen {tls_port} ssl" in rules


_RULES = ("start.sh", "nginx.conf")


def test_a_candidate_is_told_by_the_same_variable() -> None:
    compose = _services("docker-compose.yml")["candidate"]["environment"]
    added = container(overlay("canary"), "candidate")["env"][-1]
    assert compose == {added["name"]: added["value"]}
