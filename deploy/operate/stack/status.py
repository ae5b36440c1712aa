"""What runs, and whether it is healthy: gathered once, shown as a table or as JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import docker

from deploy import model_config, served
from deploy.model_config import ConfigError, Model
from deploy.operate import interrupts
from deploy.operate.access import certificates, keys
from deploy.operate.errors import Refused
from deploy.operate.stack.containers import Container, of_project
from deploy.served import Kind, Served
from tfserving_client import Policy
from tfserving_client.results import State, VersionStatus

_NEEDED = {"serving", "gateway"}
_SCHEMES = (
    ("8443/tcp", ("https", "grpcs")),
    ("8500/tcp", ("grpc",)),
    ("8501/tcp", ("http",)),
    ("9090/tcp", ("http",)),  # Prometheus
    ("3000/tcp", ("http",)),  # Grafana
    ("9093/tcp", ("http",)),  # Alertmanager
)
_TIMEOUT = 2  # seconds for one replica's answer
# Services that serve models → their models.config, as a path in the container.
_CONFIGS = {"serving": "/config/models.config", "candidate": "/config/candidate.config"}
_RECENT = 10  # seconds; the server reads the file every 2 s, and repeats each refusal
# What it logs then, in server.cc and file_system_storage_path_source.cc.
_REFUSAL = re.compile(
    r"(?:Failed to read ModelServerConfig file"
    r"|PollFilesystemAndReloadConfig failed to ReloadConfig"
    r"|FileSystemStoragePathSource encountered a filesystem access error): .*"
)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Row:
    """A container.

    Attributes:
        container: as the engine reports it.
        models: for a replica, model → its answer about it; None if it does not answer.
        trouble: what is not as configured, in sentences.
        healthy: no version failed, every model answers, and the server accepts its configuration.
    """

    container: Container
    models: Mapping[str, Served | None]
    trouble: Sequence[str] = ()
    healthy: bool = True

    @property
    def failed(self) -> set[tuple[str, str, int]]:
        """The versions that failed to load, as (container, model, version)."""
        return {
            (self.container.name, name, version.version)
            for name, answer in self.models.items()
            for version in (answer.versions if answer else ())
            if version.error
        }

    @property
    def lacking(self) -> list[str]:
        """The configured models of which it has no version AVAILABLE."""
        return [
            name
            for name, answer in self.models.items()
            if answer is not None and not answer.available
        ]


@dataclass(frozen=True, slots=True)
class Status:
    """The bundle at one moment.

    Attributes:
        rows: the containers, by name.
        urls: of gateway, Prometheus and Grafana, for callers on this machine.
        keys: how many API keys work, or why they cannot be read.
        certificate: the gateway's, or why it cannot be read; None: it makes its own at each start.
    """

    rows: Sequence[Row]
    urls: Sequence[str]
    keys: int | str
    certificate: certificates.Certificate | str | None

    @property
    def healthy(self) -> bool:
        """Server and gateway are healthy and as configured, and nginx could restart."""
        services = {row.container.service for row in self.rows}
        readable = not any(isinstance(each, str) for each in (self.keys, self.certificate))
        healthy = all(row.container.healthy and row.healthy for row in self.rows)
        return services >= _NEEDED and healthy and readable


def gather(engine: docker.DockerClient, project: str) -> Status:
    """Inspect every container, and ask every replica for its versions."""
    found = of_project(engine, project)
    urls = _urls(found)
    plain = next((url for url in urls if url.startswith("http:")), None)
    rows = [
        _replica(engine, one, plain) if one.service in _CONFIGS else Row(one, {}) for one in found
    ]
    return Status(
        rows,
        urls,
        _or_why_not(lambda: sum(not key.ended for key in keys.read())),
        _or_why_not(certificates.read),
    )


def settle(engine: docker.DockerClient, project: str, *, timeout: float) -> Status:
    """Wait until every replica answers for every model that is configured.

    Raises:
        Refused: a version failed meanwhile, or it took longer than `timeout` seconds; says what is
            missing and why.
    """
    started = time.monotonic()
    known: set[tuple[str, str, int]] | None = None  # earlier failures, which may have been fixed
    while True:
        found = gather(engine, project)
        lacking = next((row for row in found.rows if row.lacking), None)
        if not lacking:
            return found
        if known is None:
            known = lacking.failed
        waited = time.monotonic() - started
        if waited > timeout or lacking.failed - known:
            words = "; ".join(lacking.trouble)
            raise Refused(f"after {waited:.0f} s {lacking.container.name}: {words}")
        interrupts.pause(1)


def as_json(status: Status) -> str:
    """The status as one JSON object."""
    containers = [
        {**asdict(row.container), "versions": _listed(row.models), "trouble": row.trouble}
        for row in status.rows
    ]
    urls, certificate = status.urls, status.certificate
    whole = {"well": status.healthy, "containers": containers, "urls": urls, "keys": status.keys}
    return json.dumps({**whole, "certificate": certificate}, default=_plain)


def lines(status: Status) -> list[str]:
    """The status as aligned text."""
    text = [("CONTAINER", "STATE", "FOR", "VERSIONS", "PORTS", "IMAGE")]
    for row in status.rows:
        one = row.container
        versions = "; ".join(_serving(row.models))
        ports = ", ".join(f"{out}→{inside.split('/')[0]}" for inside, out in one.ports.items())
        text.append((one.name, one.condition, _age(one.since), versions, ports, one.image))
    certificate = status.certificate or "none: the gateway makes its own at each start"
    if isinstance(certificate, certificates.Certificate):
        hosts = ", ".join(certificate.hosts)
        certificate = f"until {certificate.expires:%Y-%m-%d}, for {hosts}"
    return [
        *table(text),
        *(f"{row.container.name}: {what}" for row in status.rows for what in row.trouble),
        "",
        f"urls         {'  '.join(status.urls) or 'none'}",
        f"keys         {status.keys}",
        f"certificate  {certificate}",
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length, as aligned text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


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


def _replica(engine: docker.DockerClient, one: Container, gateway: str | None) -> Row:
    """What a replica serves; if its network is out of reach, the gateway asks any replica."""
    container = engine.containers.get(one.id)
    folders = {mount["Destination"]: mount["Source"] for mount in container.attrs["Mounts"]}

    def see(path: str) -> Path:
        """The path on this machine of a path in the container."""
        for parent in [PurePosixPath(path), *PurePosixPath(path).parents]:
            if str(parent) in folders:
                return Path(folders[str(parent)], PurePosixPath(path).relative_to(parent))
        return Path(path)

    try:
        models: Sequence[Model] = model_config.read(see(_CONFIGS[one.service]))
    except ConfigError as error:
        return Row(one, {}, [str(error)], healthy=False)
    urls = [f"http://{one.address}:8501"] if one.address else []
    if one.condition == "healthy" and gateway:
        urls.append(gateway)
    answers = {model.name: _ask(urls, model) for model in models}
    found = [
        difference
        for model in models
        if (answer := answers[model.name]) is not None
        for difference in served.differences(model, answer, see)
    ]
    trouble = [difference.what for difference in found]
    refusals: list[str] = []
    if any(answers.values()):
        # Not while it starts: then it is not healthy anyway.
        said = container.logs(since=int(time.time()) - _RECENT).decode(errors="replace")
        if refusals := _REFUSAL.findall(said):
            trouble.append(f"its log says: {refusals[-1]}")
    lacking = Row(one, answers).lacking
    trouble += [f"no version of {name} is AVAILABLE" for name in lacking]
    healthy = all(difference.kind is Kind.WAITING for difference in found) and not refusals
    return Row(one, answers, trouble, healthy and not lacking)


def _ask(urls: Sequence[str], model: Model) -> Served | None:
    """The answer about a model from the first of these URLs that answers."""
    policy = Policy(timeout=_TIMEOUT, attempts=1)
    answers = (served.ask(url, model.name, tuple(model.labels), policy) for url in urls)
    return next((answer for answer in answers if answer is not None), None)


def _listed(models: Mapping[str, Served | None]) -> list[Any] | None:
    """Every version of every model; None if no model is known."""
    answers = [(name, answer) for name, answer in models.items() if answer is not None]
    found = [
        {"model": name, **asdict(one), "labels": _labels(answer, one)}
        for name, answer in answers
        for one in answer.versions
    ]
    return found if answers else None


def _serving(models: Mapping[str, Served | None]) -> list[str]:
    """The versions of each model; with its name, if there are several."""
    names = [f"{name} " if len(models) > 1 else "" for name in models]
    return [
        name + ", ".join(_words(answer, one) for one in _told(answer.versions))
        for name, answer in zip(names, models.values(), strict=True)
        if answer is not None
    ]


def _told(versions: Sequence[VersionStatus]) -> list[VersionStatus]:
    """Without those that were unloaded normally, which the server lists forever."""
    return [one for one in versions if one.error or one.state is not State.END]


def _words(answer: Served, version: VersionStatus) -> str:
    state = "FAILED" if version.error else str(version.state)
    return " ".join([str(version.version), state, *_labels(answer, version)])


def _labels(answer: Served, version: VersionStatus) -> list[str]:
    return [label for label, number in answer.labels.items() if number == version.version]


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
