"""`python -m deploy up`, `status` and `down` on a real engine, with stand-ins for both images."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.operate.bundle import DEPLOY, DIGIT, Bundle, docker
from tests.deploy.operate.fake_registry import fake_registry
from tfserving_client import AccessDenied, CallError, Classification, DigitClient, Policy, Tls

PROJECT = "digits-stack-test"
PATIENT = Policy(timeout=60, attempts=50)


@pytest.fixture
def bundle(stand_in: str, nginx: str, tmp_path: Path) -> Iterator[Bundle]:
    """On images that do not differ from the official ones in anything that matters here."""
    made = Bundle(tmp_path, {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}, PROJECT)
    yield made
    made.clear()


def _once_the_key_is_known(digits: DigitClient, images: NDArray[np.uint8]) -> Classification:
    deadline = time.monotonic() + 60
    while True:
        try:
            return digits.classify(images)
        except AccessDenied:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_from_the_first_start_to_the_last(bundle: Bundle, published: Version, nginx: str) -> None:
    assert bundle.status()[0] == 3
    bundle.publish(published)
    # As the official images of Prometheus and Grafana do, it keeps its data in a volume.
    image = f"{nginx}-with-volume"
    docker("build", f"--tag={image}", "-", text=f"FROM {nginx}\nVOLUME /var/data\n")

    up = bundle("up", "--scale", "2", NGINX_IMAGE=image)
    assert up.returncode == 0, up.stderr
    for name in ("serving-1", "serving-2", "gateway-1"):
        assert re.search(rf"^start   {name} +healthy", up.stderr, re.MULTILINE)
        assert re.search(rf"^{name} +healthy", up.stdout, re.MULTILINE)
    assert up.stdout.count("1 AVAILABLE") == 2
    assert f"https://localhost:{bundle.tls_port}" in up.stdout
    assert "certificate for localhost" in up.stderr
    (mount,) = json.loads(docker("inspect", "--format={{json .Mounts}}", f"{PROJECT}-gateway-1"))[
        -1:
    ]

    key = bundle("keys", "create", "alice").stdout.strip()
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    tls = Tls(ca=bundle.secrets / "gateway" / "ca.pem")
    with DigitClient(f"grpcs://localhost:{bundle.tls_port}", api_key=key, tls=tls) as digits:
        answer = _once_the_key_is_known(digits, images)
    np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)

    exit_status, status = bundle.status()
    assert (exit_status, status["well"], status["keys"]) == (0, True, 1)
    assert [one["name"] for one in status["containers"]] == ["gateway-1", "serving-1", "serving-2"]
    replicas = [one["versions"] for one in status["containers"][1:]]
    version = {"model": "mnist", "version": 1, "state": "AVAILABLE", "error": "", "labels": []}
    assert replicas == [[version]] * 2
    assert "localhost" in status["certificate"]["hosts"]
    assert key not in json.dumps(status)

    docker("stop", f"{PROJECT}-gateway-1")
    exit_status, status = bundle.status()
    assert (exit_status, status["well"]) == (1, False)
    assert [one["state"] for one in status["containers"]] == ["exited", "running", "running"]

    again = bundle("up", NGINX_IMAGE=image)
    assert again.returncode == 0, again.stderr
    assert bundle.status()[1]["well"]
    assert [one["id"] for one in bundle.status()[1]["containers"]] == [
        one["id"] for one in status["containers"]
    ]

    down = bundle("down")
    assert down.returncode == 0, down.stderr
    assert f"removed serving-2\nremoved network {PROJECT}_default\n" in down.stdout
    assert bundle.left() == ""
    assert mount.get("Name") not in docker("volume", "ls", "--quiet").split()
    assert bundle("down").stdout == "nothing runs\n"
    assert bundle.status()[0] == 3
    docker("rmi", image)


def test_ctrl_c_leaves_what_ran_before_and_nothing_else(bundle: Bundle, published: Version) -> None:
    bundle.publish(published)
    assert bundle.interrupted("start   serving-1", "up") == 130
    assert bundle.left() == ""
    up = bundle("up")
    assert up.returncode == 0, up.stderr
    _, before = bundle.status()
    assert bundle.interrupted("start   serving-2", "up", "--scale", "2") == 130
    exit_status, after = bundle.status()
    assert exit_status == 0
    assert [one["id"] for one in after["containers"]] == [one["id"] for one in before["containers"]]


def test_without_a_model_nothing_is_started(bundle: Bundle) -> None:
    (bundle.models / "staging").mkdir()
    up = bundle("up")
    assert up.returncode == 1
    assert _last(up).endswith(
        f"{bundle.models} holds no version; publish one with `python -m export --name mnist`"
    )
    assert bundle.left() == ""


def test_a_server_that_does_not_become_well_tells_why_and_is_removed(bundle: Bundle) -> None:
    (bundle.models / "1").mkdir()
    (bundle.models / "1" / "saved_model.pb").write_bytes(b"broken")
    up = bundle("up", "--timeout", "45")
    assert up.returncode == 1
    assert "the end of serving-1's log:" in up.stderr
    assert "Loading servable version {name: mnist version: 1} failed" in up.stderr
    assert re.search(r"after 45 s serving-1 is (re)?starting", _last(up))
    assert bundle.left() == ""


def test_a_gateway_that_ends_again_and_again_is_not_waited_for(
    bundle: Bundle, published: Version, stand_in: str
) -> None:
    bundle.publish(published)
    up = bundle("up", NGINX_IMAGE=stand_in)
    assert up.returncode == 1
    assert "the end of gateway-1's log:" in up.stderr
    assert "nginx: not found" in up.stderr
    assert "gateway-1 exits again and again" in _last(up)
    assert bundle.left() == ""


def test_a_port_that_is_taken(bundle: Bundle, published: Version) -> None:
    bundle.publish(published)
    with socket.create_server(("127.0.0.1", bundle.rest)):
        up = bundle("up")
    assert up.returncode == 1
    assert f"port {bundle.rest} of this machine is taken by another program" in _last(up)
    assert bundle.left() == ""


def test_an_image_that_cannot_be_pulled(bundle: Bundle, published: Version) -> None:
    bundle.publish(published)
    (port,) = free_ports(1)
    image = f"localhost:{port}/serving:1"
    up = bundle("up", TFS_IMAGE=image)
    assert up.returncode == 1
    assert f"the image {image} cannot be pulled" in _last(up)
    assert "undo" not in up.stderr  # there is nothing
    assert bundle.left() == ""


def test_an_image_that_is_pulled_but_cannot_run(bundle: Bundle, published: Version) -> None:
    bundle.publish(published)
    with fake_registry() as image:
        up = bundle("up", TFS_IMAGE=image)
    assert f"pull    {image}\n" in up.stderr
    assert up.returncode == 1
    assert "No such file or directory" in up.stderr  # in the log
    assert "serving-1 exits again and again" in _last(up)
    assert bundle.left() == ""
    docker("rmi", image)  # it is there now


def test_a_gpu_that_the_engine_does_not_have(bundle: Bundle, published: Version) -> None:
    if "nvidia" in docker("info", "--format={{.Runtimes}}"):
        pytest.skip("this engine has the NVIDIA runtime")
    bundle.publish(published)
    up = bundle("up", "--gpu")
    assert up.returncode == 1
    assert "the engine has no NVIDIA runtime" in _last(up)
    assert bundle.left() == ""


def test_what_up_decided_is_what_every_later_command_means(
    bundle: Bundle, published: Version
) -> None:
    bundle.publish(published)
    up = bundle("up", "--scale", "2", KEY_RATE="77")
    assert up.returncode == 0, up.stderr
    before = bundle.ids()
    for command in (["docker", "compose", "up", "--detach"], [*DEPLOY, "up"]):
        done = bundle.plain(*command)
        assert done.returncode == 0, done.stderr
        assert bundle.ids() == before
    status = bundle.plain(*DEPLOY, "status")
    assert status.returncode == 0
    assert f"http://localhost:{bundle.rest}" in status.stdout
    down = bundle.plain("docker", "compose", "down")
    assert down.returncode == 0, down.stderr
    assert bundle.left() == ""
    again = bundle.plain("docker", "compose", "up", "--detach", "--wait")
    assert again.returncode == 0, again.stderr
    assert bundle.ids().keys() == before.keys()
    assert bundle.status()[0] == 0


def test_plain_compose_that_would_want_a_gpu_touches_nothing_and_says_what_to_type(
    bundle: Bundle, published: Version
) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a GPU")
    bundle.publish(published)
    up = bundle("up", "--scale", "2")
    assert up.returncode == 0, up.stderr
    before = bundle.ids()
    settings = bundle.root / "deploy" / "machine" / ".env"
    decided = settings.read_text()
    settings.write_text(
        decided.replace("SERVING_DEVICE=cpu\n", "").replace("REPLICAS=2", "REPLICAS=1")
    )
    plain = bundle.plain("docker", "compose", "up", "--detach")
    assert plain.returncode != 0
    assert "no NVIDIA GPU. To serve on the CPU, type: python -m deploy up" in plain.stderr
    settings.write_text(decided)
    assert bundle.ids() == before
    assert bundle.status()[0] == 0


def test_an_upgrade_fails_no_call_and_one_that_fails_changes_nothing(
    bundle: Bundle, published: Version, stand_in: str, nginx: str
) -> None:
    """A new image, then one that is no server; both under load."""
    bundle.publish(published)
    up = bundle("up", "--scale", "2")
    assert up.returncode == 0, up.stderr
    before = bundle.ids()
    new = f"{stand_in}-new"
    docker("build", f"--tag={new}", "-", text=f"FROM {stand_in}\nLABEL new=1\n")
    with bundle.load() as calls:
        upgraded = bundle("up", TFS_IMAGE=new)
        assert upgraded.returncode == 0, upgraded.stderr
        after = bundle.ids()
        assert len(after) == len(before)
        assert {*after.values()} & {*before.values()} == {before["gateway-1"]}
        failed = bundle("up", TFS_IMAGE=nginx)
        assert failed.returncode == 1
        assert "exits again and again: " in _last(failed)
        assert bundle.ids() == after
        assert calls() > 0
    # The next command goes on with what worked.
    assert bundle.plain("docker", "compose", "up", "--detach").returncode == 0
    assert bundle.ids() == after
    assert bundle.status()[0] == 0
    docker("rmi", "--force", new)


def test_a_gateway_that_fails_is_replaced_by_the_one_before(
    bundle: Bundle, published: Version, stand_in: str
) -> None:
    bundle.publish(published)
    assert bundle("up").returncode == 0
    failed = bundle("up", NGINX_IMAGE=stand_in)
    assert failed.returncode == 1
    assert "undo    starting gateway again, as before" in failed.stderr
    with DigitClient(f"grpc://localhost:{bundle.grpc}", policy=PATIENT) as digits:
        assert digits.status()
    assert bundle.status()[0] in (0, 1)  # healthy soon


def test_a_configuration_that_fails_the_check_never_reaches_the_server(
    bundle: Bundle, published: Version
) -> None:
    """Labels that it does read outlive a restart."""
    for number in (1, 2):
        bundle.publish(published, number)
    assert bundle("up").returncode == 0
    edited = bundle.root / "deploy" / "server" / "models.config"
    read = bundle.root / "deploy" / "machine" / "config" / "models.config"
    good, handed = edited.read_text(), read.read_text()
    for wrong, why in (
        (good.replace("/models/mnist", "/models/none"), "none holds no version"),
        (good + "}", "models.config:"),
        (_labelled(good, 3), "label 'stable' names version 3, which is not in"),
    ):
        edited.write_text(wrong)
        for command in ("check", "up"):
            done = bundle(command)
            assert done.returncode == 1
            assert why in done.stdout + done.stderr
        assert read.read_text() == handed
    edited.write_text(_labelled(good, 1))
    assert bundle("up").returncode == 0
    with DigitClient(f"grpc://localhost:{bundle.grpc}", policy=PATIENT) as digits:
        for act in ("restart", "kill"):
            _until_labelled(digits)
            docker(act, f"{PROJECT}-serving-1")
            if act == "kill":
                assert bundle.plain("docker", "compose", "up", "--detach").returncode == 0
        _until_labelled(digits)


def test_models_of_any_name_come_and_go_while_others_answer(
    bundle: Bundle, published: Version
) -> None:
    def publish(name: str) -> Path:
        return shutil.copytree(published.path, bundle.models.parent / name / "1")

    publish("price")
    added = bundle("models", "add", "price")  # the bundle's own, mnist, was never made here
    assert "mnist is left out" in added.stderr
    up = bundle("up")
    assert up.returncode == 0, up.stderr
    publish("second")
    with bundle.load("price") as calls:
        added = bundle("models", "add", "second")
        assert added.returncode == 0, added.stderr
        with DigitClient(f"http://localhost:{bundle.rest}", model="second") as digits:
            assert digits.classify(DIGIT)
        exit_status, status = bundle.status()
        (serving,) = (one for one in status["containers"] if one["versions"])
        assert exit_status == 0
        assert {one["model"] for one in serving["versions"]} == {"price", "second"}
        own = bundle.root / "deploy" / "machine" / "server" / "models.config"
        before = own.read_text()
        (publish("broken") / "saved_model.pb").write_bytes(b"broken")
        refused = bundle("models", "add", "broken")
        assert refused.returncode == 1
        assert "version 1 of broken failed to load" in _last(refused)
        assert own.read_text() == before
        handed = bundle.root / "deploy" / "machine" / "config" / "models.config"
        assert handed.read_text() == before
        assert bundle("models", "remove", "second").returncode == 0
        assert bundle("up").returncode == 0
        rows = json.loads(bundle("models", "--json").stdout)["models"]
        assert [(row["name"], row["served"]) for row in rows] == [
            ("price", [1]),
            ("broken", None),
            ("second", None),
        ]
        assert calls() > 0


def _labelled(config: str, number: int) -> str:
    """Both versions served, and one of them called stable."""
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    label = f'version_labels {{ key: "stable" value: {number} }}'
    return config.replace('"tensorflow"\n', f'"tensorflow"\n    {policy}\n    {label}\n')


def _until_labelled(digits: DigitClient) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            assert digits.classify(DIGIT, label="stable").version == 1
            return
        except CallError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_monitoring_that_cannot_be_had_does_not_keep_the_server_down(
    bundle: Bundle, published: Version
) -> None:
    bundle.publish(published)
    (port,) = free_ports(1)
    image = f"localhost:{port}/none:1"
    missing = {f"{name}_IMAGE": image for name in ("PROMETHEUS", "ALERTMANAGER", "GRAFANA")}
    up = bundle("up", "--monitoring", **missing)
    assert up.returncode == 1
    assert "server and gateway are healthy, the monitoring is not: " in _last(up)
    assert f"the image {image} cannot be pulled" in _last(up)
    assert bundle.status()[0] == 0
