"""Bring the bundle up, wait until all of it is well, and take it down."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import docker

from deploy.operate.errors import Refused
from deploy.operate.stack.containers import Container, names, of_project
from deploy.operate.stack.engine import Compose
from tfserving_client.command.progress import Progress

_LOOK = 0.3  # seconds between two looks
_GRACE = 30  # seconds to create and start containers on a busy machine; mostly it takes one
_CRASHES = 3  # restarts of a new container that are not waited beyond
_LOG_LINES = 20


def up(engine: docker.DockerClient, compose: Compose, *, replicas: int, timeout: float) -> None:
    """Start what does not run yet, and return when every container is well.

    Lines of progress go to standard error. Whatever ends this early, Ctrl-C too: what it started
    is removed again, and what had run before stays.

    Args:
        engine: where.
        compose: what.
        replicas: containers of the model server.
        timeout: seconds from the start of the containers until all are well.

    Raises:
        Refused: there is no model, an image or a port is missing, or a container is not well in
            time; says which, after the end of its log.
    """
    _need_a_version(compose)
    project = compose.config["name"]
    before = [one for one in of_project(engine, project) if one.state == "running"]
    volumes = names(engine.volumes, project)
    try:
        for name, service in compose.config["services"].items():
            if "build" in service:
                _build(compose, name)
            else:
                _need_an_image(engine, service["image"])
        _start(engine, compose, replicas, timeout, {one.id for one in before})
    except BaseException:
        with _undisturbed():
            _take_back(engine, compose, [*volumes, *(one.name for one in before)])
        raise


def down(engine: docker.DockerClient, compose: Compose) -> list[str]:
    """Remove all containers and networks; the names of what was removed.

    Volumes without a name go with their containers; those with one, the monitoring's memory, stay.
    """
    project = compose.config["name"]
    there = [container.name for container in of_project(engine, project)]
    there += [f"network {name}" for name in names(engine.networks, project)]
    if there:
        # `down` would leave volumes without a name behind, or with --volumes take all.
        compose.run("rm", "--stop", "--force", "--volumes")
        compose.run("down", "--remove-orphans")
    return there


def _need_a_version(compose: Compose) -> None:
    volumes = compose.config["services"]["serving"]["volumes"]
    models = next(Path(one["source"]) for one in volumes if one["target"] == "/models")
    if not any(path.name.isdecimal() for path in models.glob("mnist/*")):
        raise Refused(f"{models / 'mnist'} holds no version; make one with `python -m export`")


def _need_an_image(engine: docker.DockerClient, image: str) -> None:
    """Pull an image that is not there."""
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.get(image)
        return
    print(f"pull    {image}", file=sys.stderr)
    layers: dict[str, tuple[int, int]] = {}  # done and all, in bytes

    def text(seconds: float) -> str:
        done, size = (sum(column) / 1e6 for column in zip(*layers.values(), (0, 0), strict=True))
        return f"        {done:,.0f} of {size:,.0f} MB, {seconds:.0f} s"

    repository, tag = docker.utils.parse_repository_tag(image)
    try:
        with Progress(text, at_once=True):
            for event in engine.api.pull(repository, tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise Refused(f"the image {image} cannot be pulled: {event['error']}")
                if event.get("status") == "Downloading":
                    detail = event["progressDetail"]
                    layers[event["id"]] = detail["current"], detail.get("total", 0)
    except docker.errors.APIError as error:
        raise Refused(f"the image {image} cannot be pulled: {error.explanation}") from error


def _build(compose: Compose, service: str) -> None:
    """Build an image anew if anything in it has changed."""
    print(f"build   {service}", file=sys.stderr)
    build = _running(compose, "build", service)
    with build as ended, Progress(lambda seconds: f"        {seconds:.0f} s"):
        while not ended():
            time.sleep(_LOOK)


def _start(
    engine: docker.DockerClient,
    compose: Compose,
    replicas: int,
    timeout: float,
    before: Collection[str],
) -> None:
    found: list[Container] = []
    shown: dict[str, str] = {}

    def text(seconds: float) -> str:
        waiting = [f"{one.name} {one.condition}" for one in found if not one.well]
        return f"        {', '.join(waiting) or 'starting'}, {seconds:.0f} of {timeout:g} s"

    up = _running(compose, "up", "--detach", f"--scale=serving={replicas}", grace=_GRACE)
    with up as ended, Progress(text, at_once=True) as progress:
        begun = time.monotonic()
        while True:
            started = ended()
            found = of_project(engine, compose.config["name"])
            seconds = time.monotonic() - begun
            for one in found:
                if shown.get(one.name) != one.condition:
                    shown[one.name] = one.condition
                    line = f"start   {one.name:<14} {one.condition:<12} {seconds:5.1f} s"
                    progress.print(line, sys.stderr)
            unwell = [one for one in found if not one.well]
            if started and not unwell:
                return
            hopeless = [one for one in unwell if one.id not in before and _hopeless(one)]
            if hopeless or seconds > timeout:
                break
            time.sleep(_LOOK)
    for one in hopeless or unwell:
        log = engine.containers.get(one.id).logs(tail=_LOG_LINES).decode(errors="replace").rstrip()
        print(f"\nthe end of {one.name}'s log:\n{log}\n", file=sys.stderr)
    words = ", ".join(map(_trouble, hopeless or unwell))
    raise Refused(words if hopeless else f"after {timeout:g} s {words or 'nothing has started'}")


def _hopeless(one: Container) -> bool:
    return one.condition in ("unhealthy", "dead") or one.restarts >= _CRASHES


def _trouble(one: Container) -> str:
    crashes = one.restarts >= _CRASHES
    return f"{one.name} {'ends again and again' if crashes else f'is {one.condition}'}"


@contextlib.contextmanager
def _running(compose: Compose, *arguments: str, grace: float = 0) -> Iterator[Callable[[], bool]]:
    """Run Compose meanwhile; gives a function that tells whether it is done, or raises Refused.

    Afterwards it has `grace` seconds to come to an end. The engine goes on with what it was asked
    for when Compose is ended: a container would appear after all others were removed.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            compose.command("--progress=plain", *arguments),
            env=compose.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process, which ends Compose in order
        )

        def ended() -> bool:
            if process.poll():
                log.seek(0)
                raise Refused(_explained(log.read().decode(errors="replace")))
            return process.returncode is not None

        try:
            yield ended
        finally:
            with _undisturbed():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
                process.terminate()
                process.wait()


def _explained(said: str) -> str:
    if taken := re.search(r":(\d+)\b.*(already allocated|already in use)", said):
        return (
            f"port {taken[1]} of this machine is taken by another program; stop that, or choose "
            "another with GATEWAY_PORT, GRPC_PORT, REST_PORT, PROMETHEUS_PORT or GRAFANA_PORT"
        )
    if "could not select device driver" in said:
        return "the engine has no GPU for a container; --cpu serves without one"
    return said.strip().splitlines()[-1]


def _take_back(engine: docker.DockerClient, compose: Compose, before: Collection[str]) -> None:
    """Remove every container and volume that is not named here, and all else if none is left."""
    project = compose.config["name"]
    started = [one for one in of_project(engine, project) if one.name not in before]
    if started:
        print("undo    what was started is removed again", file=sys.stderr)
    for one in started:
        engine.containers.get(one.id).remove(force=True, v=True)
    if not of_project(engine, project):
        down(engine, compose)
    for name in names(engine.volumes, project):
        if name not in before:
            engine.volumes.get(name).remove()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ctrl-C and SIGTERM."""
    numbers = signal.SIGINT, signal.SIGTERM
    handlers = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
