"""The bundle's containers, networks and volumes, as the engine reports them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker

_PROJECT, _SERVICE, _NUMBER = (
    f"com.docker.compose.{label}" for label in ("project", "service", "container-number")
)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a service.

    Attributes:
        id: the engine's id.
        name: `<service>-<number>`.
        service: its name in the compose file.
        image: the image it runs.
        state: created, running, restarting, exited, …
        health: starting, healthy or unhealthy; "" if it has no health check.
        since: when it was started or ended; None if it never ran.
        restarts: how often the engine has restarted it.
        ports: port in the container (`8443/tcp`) → host and port outside.
        address: on the project's network; "" if it has none.
    """

    id: str
    name: str
    service: str
    image: str
    state: str
    health: str
    since: datetime | None
    restarts: int
    ports: Mapping[str, str]
    address: str

    @property
    def condition(self) -> str:
        """State and health as one word."""
        return self.health if self.state == "running" and self.health else self.state

    @property
    def healthy(self) -> bool:
        """It runs, and its health check, if it has one, passes."""
        return self.condition in ("running", "healthy")


def of_project(engine: docker.DockerClient, project: str) -> list[Container]:
    """The project's containers, running or not, by name."""
    labels = {"label": [f"{_PROJECT}={project}", f"{_SERVICE}"]}
    # A container that is removed between listing and inspection is left out.
    found = engine.containers.list(all=True, filters=labels, ignore_removed=True)
    return sorted((_container(one.attrs) for one in found), key=lambda one: one.name)


def names(kind: Any, project: str) -> list[str]:
    """Names of what else the project has: `kind` is the engine's `networks` or `volumes`."""
    return sorted(one.name for one in kind.list(filters={"label": f"{_PROJECT}={project}"}))


def _container(attributes: Mapping[str, Any]) -> Container:
    labels, state = attributes["Config"]["Labels"], attributes["State"]
    settings = attributes["NetworkSettings"]
    published = {
        inside: f"{outside[0]['HostIp']}:{outside[0]['HostPort']}"
        for inside, outside in (settings["Ports"] or {}).items()
        if outside
    }
    addresses = [network["IPAddress"] for network in settings["Networks"].values()]
    return Container(
        id=attributes["Id"],
        name=f"{labels[_SERVICE]}-{labels[_NUMBER]}",
        service=labels[_SERVICE],
        image=attributes["Config"]["Image"],
        state=state["Status"],
        health=state.get("Health", {}).get("Status", "").replace("none", ""),
        since=_time(state["StartedAt" if state["Running"] else "FinishedAt"]),
        restarts=attributes["RestartCount"],
        ports=published,
        address=next(filter(None, addresses), ""),
    )


def _time(text: str) -> datetime | None:
    """Docker writes nanoseconds, and the year 1 for never."""
    found = datetime.fromisoformat(re.sub(r"\.\d+", "", text))
    return found if found.year > 1 else None
