"""Memory and CPU of the bundle's containers, and space on its disks.

Read from the kernel's control groups, which any user may read. cAdvisor would have to run as
root with the engine's socket, which means root on the machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TIMEOUT = 1.5  # seconds for the names of all containers
_AT_ONCE = 16
# `docker/<id>`, or with systemd `system.slice/docker-<id>.scope`.
_GROUP = re.compile(r"(?:docker-)?([0-9a-f]{64})(?:\.scope)?")
_SHORT = 12  # characters of an ID that are a host name on the container's network
_NO_LIMIT = 1 << 60  # version 1 of control groups reports a larger number instead of no limit
_FOUND = tuple[str, Path]


class Machine(Collector):
    """Memory and CPU of each container that has a name on this network, and space on disks.

    Args:
        groups: where the control groups are mounted, of version 1 or 2.
        disks: name → a folder on it.
    """

    def __init__(self, groups: Path, disks: Mapping[str, Path]) -> None:
        self._groups = groups
        self._disks = disks
        self._threads = ThreadPoolExecutor(_AT_ONCE, "container")

    def collect(self) -> Iterator[Metric]:
        """The metrics; what cannot be read is omitted."""
        memory = GaugeMetricFamily(
            "digits_container_memory_bytes",
            "Memory in use, without what the kernel can reclaim.",
            labels=["container"],
        )
        limit = GaugeMetricFamily(
            "digits_container_memory_limit_bytes",
            "Memory limit, at which the container is killed.",
            labels=["container"],
        )
        cpu = CounterMetricFamily(
            "digits_container_cpu_seconds", "CPU time on all cores.", labels=["container"]
        )
        for name, path in self._containers():
            with contextlib.suppress(OSError, KeyError, ValueError):  # it has just ended
                used, most, seconds = _read(self._groups, path)
                memory.add_metric([name], used)
                cpu.add_metric([name], seconds)
                if most:
                    limit.add_metric([name], most)
        free = GaugeMetricFamily("digits_disk_free_bytes", "Free space for users.", labels=["disk"])
        size = GaugeMetricFamily(
            "digits_disk_size_bytes", "Size of the file system.", labels=["disk"]
        )
        for name, folder in self._disks.items():
            with contextlib.suppress(OSError):
                found = os.statvfs(folder)
                free.add_metric([name], found.f_bavail * found.f_frsize)
                size.add_metric(
                    [name], (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
                )
        yield from (memory, limit, cpu, free, size)

    def _containers(self) -> list[_FOUND]:
        """Name and control group of each container; containers of others have no name here."""
        memory = self._groups / "memory"
        root = memory if memory.is_dir() else self._groups
        parents = [root / "docker", root / "system.slice"]
        found = [
            (match[1], path.relative_to(root))
            for parent in parents
            if parent.is_dir()
            for path in parent.iterdir()
            if (match := _GROUP.fullmatch(path.name))
        ]
        # In threads: see `replicas`.
        asked = [(self._threads.submit(_name, one[:_SHORT]), path) for one, path in found]
        named = []
        for name, path in asked:
            with contextlib.suppress(OSError, TimeoutError):
                named.append((name.result(TIMEOUT), path))
        return sorted(named)


def _name(container: str) -> str:
    """`serving-1`, from the engine's host name `project-serving-1.project_default`.

    Raises:
        OSError: no container of this network has this ID.
    """
    address = socket.gethostbyname(container)
    name = socket.gethostbyaddr(address)[0].partition(".")[0]
    found = re.search(r"[^-]+-\d+$", name)
    return found[0] if found else name


def _read(groups: Path, path: Path) -> tuple[int, int | None, float]:
    """Bytes in use, limit in bytes, seconds of CPU."""
    if (groups / "memory").is_dir():  # version 1
        memory = groups / "memory" / path
        used = int((memory / "memory.usage_in_bytes").read_text())
        cache = _fields(memory / "memory.stat")["total_inactive_file"]
        most = int((memory / "memory.limit_in_bytes").read_text())
        seconds = int((groups / "cpuacct" / path / "cpuacct.usage").read_text()) / 1e9
        return max(0, used - cache), most if most < _NO_LIMIT else None, seconds
    group = groups / path
    used = int((group / "memory.current").read_text())
    cache = _fields(group / "memory.stat")["inactive_file"]
    text = (group / "memory.max").read_text().strip()
    seconds = _fields(group / "cpu.stat")["usage_usec"] / 1e6
    return max(0, used - cache), None if text == "max" else int(text), seconds


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    return {name: int(value) for name, value in map(str.split, path.read_text().splitlines())}
