"""Backup and restore, by the very commands of deploy/README.md, on a real engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.conftest import ROOT
from tests.deploy.operate.bundle import DEPLOY, DIGIT, Bundle
from tfserving_client import DigitClient

_SECTION = (ROOT / "deploy" / "README.md").read_text().partition("## Backup\n")[2]
BACKUP, RESTORE = re.findall(r"^```\n(.*?)^```$", _SECTION.partition("\n## ")[0], re.M | re.S)
# Models and secrets where they are by default.
IN_THE_CHECKOUT = {"MODELS": "", "DEPLOY_SECRETS": ""}


@pytest.fixture
def bundles(stand_in: str, nginx: str, prometheus: str, tmp_path: Path) -> Iterator[list[Bundle]]:
    """The one that is saved, and a bare checkout elsewhere."""
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx, "PROMETHEUS_IMAGE": prometheus}
    images["PROMETHEUS_PORT"] = str(free_ports(1)[0])
    made = [Bundle(tmp_path / name, images, "digits-backup-test") for name in ("one", "another")]
    yield made
    for bundle in made:
        bundle.clear()


def _typed(bundle: Bundle, commands: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = bundle.plain("bash", "-ec", commands, PATH=path)
    assert done.returncode == 0, done.stderr


def _files(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return {member.name for member in opened.getmembers()}


def test_what_was_saved_runs_elsewhere(bundles: list[Bundle], published: Version) -> None:
    one, another = bundles
    shutil.copytree(published.path, one.root / "models" / "mnist" / "1")
    up = one("up", **IN_THE_CHECKOUT)
    assert up.returncode == 0, up.stderr
    key = one("keys", "create", "alice", **IN_THE_CHECKOUT).stdout
    settings = one.root / "deploy" / "machine" / ".env"
    settings.write_text(settings.read_text() + "COMPOSE_PROFILES=monitoring\n")
    _typed(one, "docker compose up --detach --wait --no-deps prometheus")
    _typed(one, BACKUP)
    saved = _files(one.root / "prometheus.tgz")
    assert "./wal" in saved
    one.clear()
    assert one.left() == ""

    for archive in ("backup.tgz", "prometheus.tgz"):
        shutil.copy(one.root / archive, another.root)
    restore, _, up_again = RESTORE.partition("python -m deploy up")
    assert up_again == "\n"
    _typed(another, restore)
    restored = another.plain(
        *("docker", "compose", "run", "--rm", "--no-deps", "-T", "--entrypoint", "find"),
        *("prometheus", "/prometheus", "-printf", "./%P\n"),
    )
    assert saved <= {line.rstrip("/") for line in restored.stdout.split()} | {"."}
    # Grafana's image is not at hand: the rest comes back, and that is told.
    again = another.plain(*DEPLOY, "up", GRAFANA_IMAGE=f"localhost:{free_ports(1)[0]}/none:1")
    assert "server and gateway are healthy, the monitoring is not" in again.stderr
    with DigitClient(f"grpc://localhost:{one.grpc}") as digits:
        assert digits.classify(DIGIT).version == 1
    keys = another.plain(*DEPLOY, "keys", "list").stdout
    assert "alice" in keys
    assert keys.strip().endswith(key.strip()[-4:])


def test_commands_are_commands() -> None:
    for commands in (BACKUP, RESTORE):
        assert (
            subprocess.run(["bash", "-n"], input=commands, text=True, check=False).returncode == 0
        )
