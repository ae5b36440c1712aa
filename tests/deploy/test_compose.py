"""The compose files, on a real engine, with stand-ins where the official images would be."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.local.flags import parse
from deploy.operate.access import certificates, keys
from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.conftest import ROOT, checkout
from tests.deploy.gateway import secrets_in, until
from tfserving_client import AccessDenied, CallError, DigitClient, Policy, Tls, Unreachable

GPU = ["-f", "deploy/docker-compose.yml"]
CPU = [*GPU, "-f", "deploy/docker-compose.cpu.yml"]
MACHINE = ["-f", "deploy/machine/compose.yaml"]
PROJECT = "digits-compose-test"
DIGIT = np.zeros((28, 28), np.uint8)


def _run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _config(*files: str, cwd: Path = ROOT) -> dict[str, Any]:
    """What Compose makes of the files, which it has checked against its schema."""
    done = _run("docker", "compose", *files, "config", "--format=json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


# What the files say


def test_the_gpu_file_fits_the_compose_specifications_schema(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema=vendor.compose-spec"]
    file = ROOT / "deploy" / "docker-compose.yml"
    done = _run(*check, str(file))
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(file.read_text().replace("pids_limit:", "pid_limit:"))
    assert _run(*check, str(wrong)).returncode == 1


@pytest.mark.usefixtures("engine")
def test_plain_compose_in_the_root_is_the_gpu_server(tmp_path: Path) -> None:
    """Unless the machine's settings say otherwise."""
    root = checkout(tmp_path / "checkout")
    config = _config(cwd=root)
    assert config == _config(*GPU, cwd=root) == _config(*MACHINE, cwd=root)
    serving = config["services"]["serving"]
    assert serving["image"] == "tensorflow/serving:2.21.0-gpu"
    (device,) = serving["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert serving["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "--enable_batching=true" in serving["entrypoint"]


@pytest.mark.usefixtures("engine")
def test_a_machine_that_is_set_to_the_cpu_is_what_the_override_says(tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    (root / "deploy" / "machine" / ".env").write_text("SERVING_DEVICE=cpu\n")
    override = _config(*CPU, cwd=root)
    for config in _config(cwd=root), _config(*MACHINE, cwd=root):
        del config["services"]["gpu-check"]  # is passed where something is decided
        assert config == override


@pytest.mark.usefixtures("engine")
def test_a_gpu_by_cdi_is_served_as_one_by_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = _config(*GPU)["services"]["serving"]
    monkeypatch.setenv("SERVING_DEVICE", "cdi")
    cdi = _config(*GPU)["services"]["serving"]
    (device,) = cdi.pop("deploy")["resources"]["reservations"]["devices"]
    assert (device["driver"], device["device_ids"]) == ("cdi", ["nvidia.com/gpu=all"])
    gpu.pop("deploy")
    assert cdi == gpu


@pytest.mark.usefixtures("engine")
def test_the_cpu_override_asks_for_no_gpu_and_batches_only_who_says_how() -> None:
    serving = _config(*CPU)["services"]["serving"]
    assert serving["image"] == "tensorflow/serving:2.21.0"
    assert "deploy" not in serving
    start, *flags = serving["entrypoint"]
    assert start == "/serving/start.sh"
    parsed, unknown = parse(flags)
    assert (parsed.enable_batching, parsed.enable_per_model_batching_parameters) == (True, True)
    assert (parsed.batching_parameters_file, unknown) == ("", [])
    assert serving["command"] == _config(*GPU)["services"]["serving"]["command"]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", ["serving", "gateway"])
def test_services_are_hardened(name: str) -> None:
    service = _config(*GPU)["services"][name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["restart"] == "unless-stopped"
    assert service["dns_search"] == ["."]
    assert all(volume["read_only"] for volume in service["volumes"])


@pytest.mark.usefixtures("engine")
def test_only_the_gateway_has_ports_and_they_stay_on_this_machine() -> None:
    services = _config(*GPU)["services"]
    assert "ports" not in services["serving"]
    ports = services["gateway"]["ports"]
    assert [(port["host_ip"], port["target"]) for port in ports] == [
        ("127.0.0.1", 8443),
        ("127.0.0.1", 8500),
        ("127.0.0.1", 8501),
    ]


def test_versions_stand_once() -> None:
    files = [ROOT / ".env", *(ROOT / "deploy").glob("*.yml")]
    text = "".join(path.read_text() for path in files)
    versions = re.findall(r"^\w+_VERSION=v?(.+)$", text, re.MULTILINE)
    assert len(versions) >= 2
    assert [text.count(version) for version in versions] == [1] * len(versions)
    assert "latest" not in text


# What runs


@dataclass(frozen=True)
class Stack:
    """Both services, on ports, models and secrets of their own."""

    folder: Path
    tls_port: int
    grpc_port: int
    rest_port: int
    images: tuple[str, str]

    def compose(self, *arguments: str) -> str:
        """What `docker compose` writes; it has to succeed."""
        done = _run(
            *("docker", "compose", f"--project-name={PROJECT}", *CPU, *arguments),
            TFS_IMAGE=self.images[0],
            NGINX_IMAGE=self.images[1],
            MODELS=str(self.folder / "models"),
            DEPLOY_SECRETS=str(self.folder / "secrets"),
            GATEWAY_PORT=str(self.tls_port),
            GRPC_PORT=str(self.grpc_port),
            REST_PORT=str(self.rest_port),
            KEY_RATE="100000",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, service: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in a container."""
        return _run("docker", "exec", f"{PROJECT}-{service}-1", "bash", "-c", script)

    def told(self, service: str, what: str) -> str:
        """What `docker inspect` says of a container."""
        done = _run("docker", "inspect", f"--format={{{{{what}}}}}", f"{PROJECT}-{service}")
        return done.stdout.strip()

    def healthy(self, service: str) -> bool:
        """Whether the engine finds a container to be."""
        return self.told(service, ".State.Health.Status") == "healthy"

    def client(self, scheme: str, key: str = "") -> DigitClient:
        """A client of the TLS port, patient enough for a busy machine."""
        tls = Tls(ca=self.folder / "secrets" / "gateway" / "ca.pem")
        url = f"{scheme}://127.0.0.1:{self.tls_port}"
        return DigitClient(
            url, api_key=key or None, tls=tls, policy=Policy(timeout=60, attempts=10)
        )

    def publish(self, version: Version, number: int) -> None:
        """Put a version into the models' folder, all at once."""
        model = self.folder / "models" / "mnist"
        shutil.copytree(version.path, model / f".staging-{number}")
        (model / f".staging-{number}").rename(model / str(number))


@pytest.fixture(scope="module")
def stack(stand_in: str, nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Not up yet, with an empty model repository; down in the end."""
    tls_port, grpc_port, rest_port = free_ports(3)
    stack = Stack(
        tmp_path_factory.mktemp("stack"), tls_port, grpc_port, rest_port, (stand_in, nginx)
    )
    (stack.folder / "models" / "mnist").mkdir(parents=True)
    for folder in stack.folder.iterdir(), [stack.folder, stack.folder.parent]:
        for path in folder:
            path.chmod(0o755)  # the server is another user
    with secrets_in(stack.folder):
        certificates.make()
    yield stack
    stack.compose("down", "--timeout=5")


@pytest.fixture(scope="module")
def empty(stack: Stack) -> Stack:
    """Up, without a version to serve."""
    stack.compose("up", "--detach")
    return stack


@pytest.fixture(scope="module")
def up(empty: Stack, published: Version) -> Stack:
    """Up and healthy, with version 1."""
    empty.publish(published, 1)
    # Anew: a server without a version for longer than a start may take is unhealthy at once.
    empty.compose("up", "--detach", "--wait", "--force-recreate")
    return empty


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    with secrets_in(stack.folder):
        return keys.create("alice").key


def test_without_a_version_the_server_is_not_healthy_and_the_gateway_says_so(
    empty: Stack, key: str
) -> None:
    until(lambda: empty.healthy("gateway-1"))
    assert empty.told("serving-1", ".State.Health.Status") == "starting"
    with empty.client("https", key) as digits:
        until(lambda: _is_refused_by_nobody(digits))


def _is_refused_by_nobody(digits: DigitClient) -> bool:
    try:
        digits.status()
    except CallError as error:  # the key is a second old
        return "503" in error.server_text and error.retry_after == 1
    return False


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_client_with_a_key_classifies(
    up: Stack, published: Version, key: str, scheme: str
) -> None:
    assert up.healthy("serving-1")
    assert up.healthy("gateway-1")
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    with up.client(scheme, key) as digits:
        answer = digits.classify(images)
        np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
    with up.client(scheme) as stranger, pytest.raises(AccessDenied):
        stranger.classify(images)


def test_this_machine_needs_no_key(up: Stack) -> None:
    for url in f"grpc://localhost:{up.grpc_port}", f"http://localhost:{up.rest_port}":
        with DigitClient(url) as digits:
            assert len(digits.classify(DIGIT)) == 1


def test_a_new_version_is_served(up: Stack, published: Version) -> None:
    up.publish(published, 2)
    with DigitClient(f"grpc://localhost:{up.grpc_port}") as digits:
        digits.wait_until_ready(version=2)
        assert digits.classify(DIGIT).version == 2


@pytest.mark.parametrize("service", ["serving", "gateway"])
def test_a_container_can_change_nothing_and_become_nobody(up: Stack, service: str) -> None:
    assert up.inside(service, "id -u").stdout.strip() not in {"", "0"}
    status = up.inside(service, "cat /proc/self/status").stdout
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert set(re.findall(r"^Cap\w+:\s+(\w+)$", status, re.MULTILINE)) == {"0" * 16}
    for folder in (
        "/",
        "/usr",
        "/etc",
        "/config",
        "/models",
        "/serving",
        "/gateway",
        "/etc/gateway",
    ):
        assert up.inside(service, f"touch {folder}/x").returncode != 0
    assert int(up.told(f"{service}-1", ".HostConfig.Memory")) > 0
    assert int(up.told(f"{service}-1", ".HostConfig.PidsLimit")) > 0


def test_names_are_those_of_the_house_alone(up: Stack) -> None:
    names = up.inside("gateway", "cat /etc/resolv.conf").stdout
    assert "nameserver" in names
    assert set(re.findall(r"^search\s*(.*)$", names, re.MULTILINE)) <= {"", "."}
    assert up.inside("gateway", "getent ahostsv4 serving").stdout


def test_a_full_disk_stops_neither_calls_nor_health(up: Stack, key: str) -> None:
    for folder in ("/run/gateway", "/run/gateway/body"):
        fill = up.inside("gateway", f"cat /dev/zero > {folder}/full")
        assert "No space left" in fill.stderr
    with up.client("grpcs", key) as digits:
        assert len(digits.classify(DIGIT)) == 1
        assert up.inside("gateway", "rm /run/gateway/full").returncode == 0
        with secrets_in(up.folder):
            new = keys.create("later").key
        with up.client("https", new) as later:  # the space for bodies is full still
            until(lambda: _is_answered(later))
        assert up.inside("gateway", "rm /run/gateway/body/full").returncode == 0
        assert len(digits.classify(DIGIT)) == 1


def _is_answered(digits: DigitClient) -> bool:
    with contextlib.suppress(CallError):
        return bool(digits.status(timeout=5))
    return False


@pytest.mark.parametrize("service", ["serving", "gateway"])
def test_what_crashes_comes_back(up: Stack, key: str, service: str) -> None:
    before = int(up.told(f"{service}-1", ".RestartCount"))
    up.inside(service, "kill -KILL -1")  # all but PID 1, which then ends
    until(lambda: int(up.told(f"{service}-1", ".RestartCount")) > before)
    until(lambda: up.healthy(f"{service}-1"))
    with up.client("https", key) as digits:
        assert len(digits.classify(DIGIT)) == 1


def test_killing_one_of_three_under_load_fails_no_call(up: Stack, key: str) -> None:
    up.compose("up", "--detach", "--wait", "--scale=serving=3")
    with up.client("grpcs", key) as over_grpc, up.client("https", key) as over_rest:
        with _load(over_grpc, over_rest) as done:
            until(lambda: _upstreams(up) >= 3)
            killed = done()
            assert _run("docker", "kill", f"{PROJECT}-serving-2").returncode == 0
            until(lambda: min(done()) > max(killed) + 100)
    up.compose("up", "--detach", "--wait", "--scale=serving=1")


def _upstreams(up: Stack) -> int:
    return len(set(re.findall(r'"upstream":"([\d.]+):', up.compose("logs", "gateway"))))


@contextlib.contextmanager
def _load(*clients: DigitClient) -> Iterator[Any]:
    """Each classifies again and again, and none may fail; gives out how often they did."""
    done, failed, stop = [0] * len(clients), list[Exception](), threading.Event()

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                clients[number].classify(DIGIT)
                done[number] += 1
        except Exception as error:  # told where the test waits
            failed.append(error)

    def count() -> list[int]:
        assert failed == []
        return [*done]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    try:
        yield count
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_going_down_answers_what_was_accepted(up: Stack) -> None:
    """The gateway's own log has no failure, and every answer in it reached its caller."""
    with secrets_in(up.folder):
        key = keys.create("last").key
    with up.client("https", key) as digits:
        until(lambda: _is_answered(digits))
    follow = ["docker", "logs", "--follow", f"{PROJECT}-gateway-1"]
    answered: list[int] = []
    with (up.folder / "log").open("wb") as log, subprocess.Popen(follow, stdout=log) as follower:
        until(lambda: (up.folder / "log").stat().st_size > 0)  # it follows
        callers = [threading.Thread(target=_until_closed, args=(up, key, answered)) for _ in "ab"]
        for caller in callers:
            caller.start()
        until(lambda: len(answered) > 50)
        up.compose("down")
        for caller in callers:
            caller.join()
        follower.wait()
    lines = (up.folder / "log").read_text().splitlines()
    accepted = [line for line in lines if '"key":"last"' in line and '"method":"POST"' in line]
    assert {json.loads(line)["status"] for line in accepted} == {200}
    assert len(accepted) == len(answered)


def _until_closed(up: Stack, key: str, answered: list[int]) -> None:
    with contextlib.suppress(Unreachable):
        with up.client("https", key) as digits:
            while True:
                answered.append(len(digits.classify(DIGIT)))
