"""What nginx and promtool find themselves, in containers of a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Version
from tests.deploy.operate.bundle import Bundle, docker


@pytest.fixture
def bundle(
    stand_in: str, nginx: str, prometheus: str, published: Version, tmp_path: Path
) -> Iterator[Bundle]:
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx, "PROMETHEUS_IMAGE": prometheus}
    made = Bundle(tmp_path, images, "digits-check-test")
    made.publish(published)
    yield made
    made.clear()


def _edit(bundle: Bundle, name: str, old: str, new: str) -> None:
    path = bundle.root / "deploy" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_each_mistake_is_a_line_and_nothing_is_left_behind(bundle: Bundle) -> None:
    well = bundle("check")
    assert (well.returncode, well.stderr) == (0, ""), well.stdout
    _edit(bundle, "gateway/nginx.conf", "worker_processes", "worker_process")
    _edit(bundle, "monitoring/alerts.yml", "expr:", "exprr:")
    _edit(bundle, "server/batching.config", "max_batch_size", "max_batch")
    wrong = bundle("check")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    server, gateway, rules = wrong.stdout.splitlines()
    assert server.startswith("deploy/server/batching.config:4: ")
    assert gateway.startswith("deploy/gateway: ")
    assert 'unknown directive "worker_process" in deploy/gateway/nginx.conf:' in gateway
    assert rules.startswith("deploy/monitoring: ")
    assert "field exprr not found" in rules
    mounts = docker("ps", "--all", "--no-trunc", "--format={{.Mounts}}")
    assert str(bundle.root) not in mounts, "a container of the check is left"


def test_up_begins_with_it(bundle: Bundle) -> None:
    _edit(bundle, "gateway/nginx.conf", "worker_processes", "worker_process")
    up = bundle("up")
    assert up.returncode == 1
    assert 'unknown directive "worker_process"' in up.stderr.splitlines()[-1]
    assert bundle.left() == ""


def test_a_program_that_is_not_here_is_told(bundle: Bundle) -> None:
    check = bundle("check", NGINX_IMAGE="digits-serving/none:1")
    assert check.returncode == 0
    assert "not checked with gateway: the image digits-serving/none:1 is not here" in check.stderr
    nowhere = bundle("check", DOCKER_HOST="unix:///none")
    assert nowhere.returncode == 0
    assert "nginx.conf and Prometheus' rules are not checked: no container engine" in nowhere.stderr
