"""What runs where, and whether it is well: gathered once, shown as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import docker

from deploy.operate.access import certificates, keys
from deploy.operate.errors import Refused
from deploy.operate.stack.containers import Container, of_project
from tfserving_client import CallError, ServingClient
from tfserving_client.results import State, VersionStatus

_NEEDED = {"serving", "gateway"}
_SCHEMES = (
    ("8443/tcp", ("https", "grpcs")),
    ("8500/tcp", ("grpc",)),
    ("8501/tcp", ("http",)),
    ("9090/tcp", ("http",)),  # Prometheus
    ("3000/tcp", ("http",)),  # Grafana
)
_TIMEOUT = 2  # seconds for one replica's answer

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Row:
    """A container, and what it says of its model versions; None if it has none or is silent."""

    container: Container
    versions: Sequence[VersionStatus] | None


@dataclass(frozen=True, slots=True)
class Status:
    """The bundle at one moment.

    Attributes:
        rows: the containers, by name.
        urls: where callers on this machine find gateway, Prometheus and Grafana.
        keys: how many API keys there are, or why they cannot be read.
        certificate: the gateway's, or why it cannot be read; None: it makes its own at each start.
    """

    rows: Sequence[Row]
    urls: Sequence[str]
    keys: int | str
    certificate: certificates.Certificate | str | None

    @property
    def well(self) -> bool:
        """Server and gateway run, every container is well, and nginx could start again."""
        services = {row.container.service for row in self.rows}
        readable = not any(isinstance(each, str) for each in (self.keys, self.certificate))
        return services >= _NEEDED and all(row.container.well for row in self.rows) and readable


def gather(engine: docker.DockerClient, project: str) -> Status:
    """Look at every container, and ask every replica for its versions."""
    found = of_project(engine, project)
    urls = _urls(found)
    plain = next((url for url in urls if url.startswith("http:")), None)
    rows = [Row(one, _versions(one, plain) if one.service == "serving" else None) for one in found]
    return Status(rows, urls, _or_why_not(lambda: len(keys.read())), _or_why_not(certificates.read))


def as_json(status: Status) -> str:
    """The status as one JSON object."""
    containers = [{**asdict(row.container), "versions": row.versions} for row in status.rows]
    urls, certificate = status.urls, status.certificate
    whole = {"well": status.well, "containers": containers, "urls": urls, "keys": status.keys}
    return json.dumps({**whole, "certificate": certificate}, default=_plain)


def lines(status: Status) -> list[str]:
    """The status as aligned text."""
    table = [("CONTAINER", "STATE", "FOR", "VERSIONS", "PORTS", "IMAGE")]
    for row in status.rows:
        one = row.container
        versions = "" if row.versions is None else ", ".join(map(_words, _told(row.versions)))
        ports = ", ".join(f"{out}→{inside.split('/')[0]}" for inside, out in one.ports.items())
        table.append((one.name, one.condition, _age(one.since), versions, ports, one.image))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    certificate = status.certificate or "none: the gateway makes its own at each start"
    if isinstance(certificate, certificates.Certificate):
        hosts = ", ".join(certificate.hosts)
        certificate = f"until {certificate.expires:%Y-%m-%d}, for {hosts}"
    return [
        *text,
        "",
        f"urls         {'  '.join(status.urls) or 'none'}",
        f"keys         {status.keys}",
        f"certificate  {certificate}",
    ]


def _or_why_not(read: Callable[[], Found]) -> Found | str:
    try:
        return read()
    except Refused as error:
        return str(error)


def _urls(found: Sequence[Container]) -> list[str]:
    outside = {port: where.rpartition(":")[2] for one in found for port, where in one.ports.items()}
    return [
        f"{scheme}://localhost:{outside[port]}"
        for port, schemes in _SCHEMES
        if port in outside
        for scheme in schemes
    ]


def _versions(replica: Container, gateway: str | None) -> Sequence[VersionStatus] | None:
    """What the replica says; any replica, by the gateway, where its network is out of reach."""
    asked = [f"http://{replica.address}:8501"] if replica.address else []
    if replica.condition == "healthy" and gateway:
        asked.append(gateway)
    for url in asked:
        try:
            with ServingClient(url, model="mnist", timeout=_TIMEOUT) as serving:
                return serving.status()
        except CallError:
            continue
    return None


def _told(versions: Sequence[VersionStatus]) -> list[VersionStatus]:
    """Without those that ended in peace, which the server lists for ever."""
    return [one for one in versions if one.error or one.state is not State.END]


def _words(version: VersionStatus) -> str:
    return f"{version.version} {'FAILED' if version.error else version.state}"


def _age(since: datetime | None) -> str:
    if since is None:
        return ""
    seconds = int((datetime.now(UTC) - since).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else asdict(value)
