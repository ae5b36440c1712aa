"""Memory, CPU and disks, from control groups of both versions as the kernel writes them."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from deploy.exporter.machine import Machine

ONE, OTHER = "1" * 64, "2" * 64
SERVING = "serving-1"


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def _version_1(root: Path) -> None:
    for one in (ONE, OTHER):
        _write(
            root / "memory" / "docker" / one,
            memory_usage_in_bytes="5000",
            memory_stat="cache 700\ntotal_inactive_file 1000",
            memory_limit_in_bytes="8000" if one == ONE else "9223372036854771712",
        )
        _write(root / "cpuacct" / "docker" / one, cpuacct_usage="2500000000")


def _version_2(root: Path) -> None:
    for one in (ONE, OTHER):
        _write(
            root / "system.slice" / f"docker-{one}.scope",
            memory_current="5000",
            memory_stat="anon 4000\ninactive_file 1000",
            memory_max="8000" if one == ONE else "max",
            cpu_stat="usage_usec 2500000\nuser_usec 1",
        )
    _write(root / "system.slice" / "ssh.service", memory_current="1")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """ID → the name that the engine has for it; the rest has none."""
    known = {ONE[:12]: "digits-serving-serving-1.digits-serving_default"}

    def address(name: str) -> str:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return name

    monkeypatch.setattr(socket, "gethostbyname", address)
    monkeypatch.setattr(socket, "gethostbyaddr", lambda name: (known[name], [], []))
    return known


@pytest.mark.parametrize("write", [_version_1, _version_2])
def test_what_the_containers_of_this_network_use(
    write: Any, names: dict[str, str], tmp_path: Path, samples: Any
) -> None:
    write(tmp_path)
    machine = Machine(tmp_path, {})
    expected = {
        ("digits_container_memory_bytes", SERVING): 4000,
        ("digits_container_memory_limit_bytes", SERVING): 8000,
        ("digits_container_cpu_seconds_total", SERVING): 2.5,
    }
    assert samples(machine) == expected
    names[OTHER[:12]] = "digits-serving-gateway-1.digits-serving_default"
    seen = samples(machine)
    assert seen["digits_container_memory_bytes", "gateway-1"] == 4000
    assert ("digits_container_memory_limit_bytes", "gateway-1") not in seen


@pytest.mark.usefixtures("names")
def test_without_control_groups_there_is_nothing_of_containers(
    tmp_path: Path, samples: Any
) -> None:
    assert samples(Machine(tmp_path / "nothing", {})) == {}


def test_disks(tmp_path: Path, samples: Any) -> None:
    seen = samples(Machine(tmp_path, {"models": tmp_path, "gone": tmp_path / "nothing"}))
    usage = shutil.disk_usage(tmp_path)
    assert set(seen) == {("digits_disk_free_bytes", "models"), ("digits_disk_size_bytes", "models")}
    assert seen["digits_disk_free_bytes", "models"] == pytest.approx(usage.free, rel=0.2)
    assert seen["digits_disk_size_bytes", "models"] <= usage.total
