"""Start the bundle, wait until all of it is healthy, and remove it.

Servers are replaced one at a time: a new one is started beside the old one, which is removed when
the new one is healthy. So a wrong image or flag shows on a container without callers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import docker

from deploy.operate import interrupts
from deploy.operate.errors import Refused
from deploy.operate.stack import causes, images, settings
from deploy.operate.stack.containers import Container, names, of_project
from deploy.operate.stack.engine import Compose
from tfserving_client.command.progress import Progress

_LOOK = 0.3  # seconds between two checks
_GRACE = 30  # seconds to create and start containers on a busy machine; usually one
_CRASHES = 3  # restarts of a new container after which it is given up
_LOG_LINES = 20
CANARY_PROFILE = "canary"  # the profile of the server of a canary
# The variable that replaces the image of a service.
_IMAGES = {
    "serving": "TFS_IMAGE",
    "gateway": "NGINX_IMAGE",
    "prometheus": "PROMETHEUS_IMAGE",
    "alertmanager": "ALERTMANAGER_IMAGE",
    "grafana": "GRAFANA_IMAGE",
    "gpu-exporter": "DCGM_IMAGE",
}


def needed(compose: Compose) -> list[str]:
    """The services that answer callers."""
    services: Mapping[str, Mapping[str, Any]] = compose.config["services"]
    return [
        name
        for name, service in services.items()
        if service.get("profiles", [CANARY_PROFILE]) == [CANARY_PROFILE] and service.get("scale", 1)
    ]


def monitoring(compose: Compose) -> list[str]:
    """The services of the monitoring; none if its profile is off."""
    services: Mapping[str, Mapping[str, Any]] = compose.config["services"]
    return [
        name
        for name, service in services.items()
        if service.get("profiles", [CANARY_PROFILE]) != [CANARY_PROFILE]
    ]


def as_it_runs(engine: docker.DockerClient, wanted: Compose) -> Compose:
    """What runs now, for Compose: the settings and images of the existing containers."""
    there = of_project(engine, wanted.config["name"])
    images_then = {_IMAGES[one.service]: one.image for one in there if one.service in _IMAGES}
    replicas = sum(one.service == "serving" for one in there)
    if settings.FILE.exists():  # it has the rest
        known = settings.names()
        then = {name: value for name, value in wanted.environment.items() if name not in known}
    else:
        then = dict(wanted.environment)
    return Compose({**then, **images_then, "SERVING_REPLICAS": str(replicas or 1)})


def up(engine: docker.DockerClient, compose: Compose, before: Compose, *, timeout: float) -> None:
    """Start what does not run, replace what has changed, and return when all is healthy.

    Lines of progress go to standard error. If this ends early, also by Ctrl-C, what it started
    is removed, and what ran before stays or is started again.

    Args:
        engine: the container engine.
        compose: the configuration, whose images are on the engine.
        before: what ran until now, for the way back.
        timeout: seconds from the start of a container until it is healthy.

    Raises:
        Refused: a port is not free, or a container is not healthy in time; says which and why,
            after the end of its log.
    """
    _change(engine, compose, before, needed(compose), timeout)


def watch(
    engine: docker.DockerClient, compose: Compose, before: Compose, *, timeout: float
) -> None:
    """Start the monitoring, or remove it if it is switched off.

    Raises:
        Refused: as `up`, or an image is not available; server and gateway keep running.
    """
    if services := monitoring(compose):
        images.fetch(engine, compose, services)
        _change(engine, compose, before, services, timeout)
        return
    wanted = needed(compose)
    for one in of_project(engine, compose.config["name"]):
        if one.service not in wanted:
            print(f"stop    {one.name}", file=sys.stderr)
            engine.containers.get(one.id).remove(force=True, v=True)


def start(engine: docker.DockerClient, compose: Compose, service: str, *, timeout: float) -> None:
    """Start one service beside what runs, and return when it is healthy.

    Raises:
        Refused: it is not healthy in time; says why.
    """
    known = {one.id for one in of_project(engine, compose.config["name"])}
    _start(engine, compose, ["up", "--detach", "--no-deps", service], [service], timeout, known)


def down(engine: docker.DockerClient, compose: Compose) -> list[str]:
    """Remove all containers and networks; the names of what was removed.

    Anonymous volumes are removed with their containers; named ones, the monitoring's data, stay.
    """
    project = compose.config["name"]
    there = [container.name for container in of_project(engine, project)]
    there += [f"network {name}" for name in names(engine.networks, project)]
    if there:
        # `down` would leave anonymous volumes behind, or with --volumes remove all.
        compose.run("rm", "--stop", "--force", "--volumes")
        compose.run("down", "--remove-orphans")
    return there


def _change(
    engine: docker.DockerClient,
    compose: Compose,
    before: Compose,
    services: Sequence[str],
    timeout: float,
) -> None:
    project = compose.config["name"]
    there = of_project(engine, project)
    volumes = names(engine.volumes, project)
    known = {one.id for one in there}
    try:
        if "serving" in services:
            _replace_servers(engine, compose, there, timeout)
        _start(engine, compose, ["up", "--detach", *services], services, timeout, known)
    except BaseException:
        with interrupts.ignored():
            _take_back(engine, before, there, volumes)
        raise


def _replace_servers(
    engine: docker.DockerClient, compose: Compose, there: Sequence[Container], timeout: float
) -> None:
    """Start a new server for each outdated one, and then remove the outdated one."""
    project = compose.config["name"]
    servers = [one for one in there if one.service == "serving"]
    outdated = [one for one in servers if _is_outdated(engine, compose, one)]
    if not any(one.healthy for one in outdated):
        return  # they answer no callers, so there is no need for care
    count, wanted = len(servers), compose.config["services"]["serving"]["scale"]
    for number, old in enumerate(outdated):
        if number < wanted:
            known = {one.id for one in of_project(engine, project)}
            beside = ["--no-deps", "--no-recreate", f"--scale=serving={count + 1}", "serving"]
            _start(engine, compose, ["up", "--detach", *beside], ["serving"], timeout, known)
        else:
            count -= 1
        print(f"stop    {old.name}", file=sys.stderr)
        container = engine.containers.get(old.id)
        container.stop()
        container.remove(v=True)


def _is_outdated(engine: docker.DockerClient, compose: Compose, one: Container) -> bool:
    """Whether Compose would recreate the container."""
    service, digest = compose.run("config", "--hash", one.service).split()
    attributes = engine.containers.get(one.id).attrs
    image = engine.images.get(compose.config["services"][service]["image"])
    labels = attributes["Config"]["Labels"]
    return bool(
        labels["com.docker.compose.config-hash"] != digest or attributes["Image"] != image.id
    )


def _start(
    engine: docker.DockerClient,
    compose: Compose,
    command: Sequence[str],
    services: Collection[str],
    timeout: float,
    known: Collection[str],
) -> None:
    """Run this command of Compose, and wait until every container of the services is healthy.

    A container that was `known` before may end and be unhealthy meanwhile.
    """
    found: list[Container] = []
    shown: dict[str, str] = {}

    def text(seconds: float) -> str:
        waiting = [f"{one.name} {one.condition}" for one in found if not one.healthy]
        return f"        {', '.join(waiting) or 'starting'}, {seconds:.0f} of {timeout:g} s"

    with (
        compose.running(*command, grace=_GRACE) as ended,
        Progress(text, at_once=True) as progress,
    ):
        begun = time.monotonic()
        while True:
            started = ended()
            found = [
                one for one in of_project(engine, compose.config["name"]) if one.service in services
            ]
            seconds = time.monotonic() - begun
            for one in found:
                if shown.get(one.name) != one.condition:
                    shown[one.name] = one.condition
                    line = f"start   {one.name:<14} {one.condition:<12} {seconds:5.1f} s"
                    progress.print(line, sys.stderr)
            unhealthy = [one for one in found if not one.healthy]
            if started and not unhealthy:
                return
            hopeless = [one for one in unhealthy if one.id not in known and _hopeless(one)]
            if hopeless or seconds > timeout:
                break
            interrupts.pause(_LOOK)
    words = ", ".join(_trouble(engine, one) for one in hopeless or unhealthy)
    raise Refused(words if hopeless else f"after {timeout:g} s {words or 'nothing has started'}")


def _hopeless(one: Container) -> bool:
    return one.condition in ("unhealthy", "dead") or one.restarts >= _CRASHES


def _trouble(engine: docker.DockerClient, one: Container) -> str:
    """What is wrong with a container, after the end of its log."""
    container = engine.containers.get(one.id)
    log = container.logs(tail=_LOG_LINES).decode(errors="replace").rstrip()
    print(f"\nthe end of {one.name}'s log:\n{log}\n", file=sys.stderr)
    state = "exits again and again" if one.restarts >= _CRASHES else f"is {one.condition}"
    return f"{one.name} {state}: {causes.why(log, container.attrs['State'])}"


def _take_back(
    engine: docker.DockerClient,
    before: Compose,
    there: Sequence[Container],
    volumes: Collection[str],
) -> None:
    """Remove what is new, and start again what was replaced."""
    project = before.config["name"]
    known = {one.id for one in there}
    started = [one for one in of_project(engine, project) if one.id not in known]
    if started:
        print("undo    removing what was started", file=sys.stderr)
    for one in started:
        engine.containers.get(one.id).remove(force=True, v=True)
    left = of_project(engine, project)
    gone = {one.id: one for one in there if one.state == "running"}.keys() - {o.id for o in left}
    if gone:
        services = sorted({one.service for one in there if one.id in gone})
        print(f"undo    starting {', '.join(services)} again, as before", file=sys.stderr)
        before.run("up", "--detach", "--no-deps", *services)
    elif not left:
        down(engine, before)
    for name in names(engine.volumes, project):
        if name not in volumes:
            engine.volumes.get(name).remove()
