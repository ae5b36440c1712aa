"""The running servers: whether each follows the configuration of a model."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import docker

from deploy import served
from deploy.model_config import Model
from deploy.operate import interrupts
from deploy.operate.errors import Refused
from deploy.operate.stack import containers
from deploy.served import Difference, Kind, Served
from tfserving_client import Policy
from tfserving_client.command.progress import Progress

_GRPC, _REST = 8500, 8501
_ONCE = Policy(timeout=2, attempts=1)
_LOOK = 0.25  # seconds between two checks


@dataclass(frozen=True, slots=True)
class Replica:
    """A running server: name and id of its container, and its addresses.

    If containers cannot be reached, as on a desktop whose engine runs in a virtual machine, the
    addresses are the gateway's, which asks any replica.
    """

    name: str
    id: str
    grpc: str
    rest: str


def running(engine: docker.DockerClient, project: str, service: str = "serving") -> list[Replica]:
    """All running servers of a service, ready or not, by name."""
    found = containers.of_project(engine, project)
    ports = {port: where for one in found for port, where in one.ports.items()}
    return [
        _replica(one, ports) for one in found if one.service == service and one.state == "running"
    ]


def _replica(one: containers.Container, ports: dict[str, str]) -> Replica:
    within_reach = _is_open(one.address, _REST) is not None
    grpc, rest = (
        f"{one.address}:{inside}"
        if within_reach
        else f"localhost:{ports.get(f'{inside}/tcp', str(inside)).rpartition(':')[2]}"
        for inside in (_GRPC, _REST)
    )
    return Replica(one.name, one.id, f"grpc://{grpc}", f"http://{rest}")


def is_starting(one: Replica) -> bool:
    """Whether it has no open port yet, because it waits for its first version."""
    host, _, port = one.rest.removeprefix("http://").rpartition(":")
    return _is_open(host, int(port)) is False


def _is_open(host: str, port: int) -> bool | None:
    """Whether the port is open; None if it cannot be reached."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    return True


def available(replicas: Sequence[Replica], model: Model) -> frozenset[int]:
    """The versions AVAILABLE on all of them that answer; none if none answers."""
    return served.everywhere([found for one in replicas if (found := _ask(one, model))])


def wait(
    running: Callable[[], Sequence[Replica]],
    model: Model,
    differing: Callable[[Model, Served], Iterable[Difference]],
    *,
    timeout: float,
) -> None:
    """Return when every server does what its model says; progress is shown.

    Args:
        running: the servers, looked up again and again.
        model: as it is configured.
        differing: what is not as configured, of a model and what a server says of it.
        timeout: seconds.

    Raises:
        Refused: a version failed to load, or it took longer than `timeout` seconds; says where and
            what is missing.
    """
    what = ""
    begun = time.monotonic()

    def text(seconds: float) -> str:
        return f"        {what or 'waiting'}, {seconds:.0f} of {timeout:g} s"

    with Progress(text, at_once=True):
        while True:
            replicas = running()
            found = next(
                (each for one in replicas for each in _differences(one, model, differing)), None
            )
            if replicas and not found:
                return
            what = found.what if found else "no server runs"
            seconds = time.monotonic() - begun
            if seconds > timeout or (found and found.kind is Kind.FAILED):
                raise Refused(f"after {seconds:.0f} s {what}")
            interrupts.pause(_LOOK)


def _differences(
    one: Replica, model: Model, differing: Callable[[Model, Served], Iterable[Difference]]
) -> Iterator[Difference]:
    answer = _ask(one, model)
    if answer is None:
        yield Difference(Kind.WAITING, model.name, None, f"{one.name} does not answer")
        return
    for each in differing(model, answer):
        yield Difference(each.kind, each.model, each.version, f"{one.name}: {each.what}")


def _ask(one: Replica, model: Model) -> Served | None:
    return served.ask(one.rest, model.name, tuple(model.labels), _ONCE)
