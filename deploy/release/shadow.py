"""A sample of live requests, which the gateway keeps while a file of its configuration says so.

    mnist 1 5 1796058000

The model, the share of its requests in percent, how many a second at most, and until when, in
seconds since 1970. The gateway ends it by itself, so it ends though this command is killed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import docker

from deploy.operate.access import secret_files
from deploy.operate.errors import Refused
from deploy.operate.stack import containers, served
from tfserving_client.command.progress import Progress

_FOLDER = "/run/gateway/shadow"  # in the gateway, of the requests: one of each sample, by its end
_TAKEN_UP = 15.0  # seconds until the gateway has read it; it takes one or two
_LOOK = 0.25  # seconds between two looks


def sample(
    engine: docker.DockerClient,
    project: str,
    model: str,
    *,
    percent: float,
    rate: int,
    seconds: int,
    say: Callable[[str], None],
) -> bytes:
    """Have the gateway keep some of the requests to a model; the callers notice nothing.

    Args:
        engine: on which the gateway runs.
        project: the bundle's, for Compose.
        model: its name.
        percent: of its requests.
        rate: how many of them a second at most.
        seconds: how long.
        say: takes a line of progress.

    Returns:
        Them, one a line; `requests.of_lines` reads it.

    Raises:
        Refused: no gateway runs, or it does not keep any; another sample is being taken; no request
            came.
    """
    gateway = _gateway(engine, project)
    until = int(time.time()) + 1 + seconds
    with _kept(f"{model} {percent:g} {rate} {until}\n"):
        begun = time.monotonic()
        while gateway.exec_run(["test", "-d", f"{_FOLDER}/{until}"]).exit_code:
            if time.monotonic() > begun + _TAKEN_UP:
                raise Refused(
                    "the gateway keeps no requests: it reads another configuration, which `python "
                    "-m deploy up` mends, or its nginx has no JavaScript module, as the official "
                    "image has"
                )
            time.sleep(_LOOK)
        say(
            f"sample  {percent:g} % of the requests to {model}, at most {rate} a second, "
            f"{seconds:g} s"
        )
        with Progress(lambda passed: f"        {passed:.0f} of {seconds:g} s"):
            time.sleep(max(0, until - time.time()))
        show = f"cat {_FOLDER}/{until}/* 2>/dev/null"
        lines: bytes = gateway.exec_run(["sh", "-c", show]).output
    if not lines:
        raise Refused(
            f"of the requests to {model} none was kept in {seconds:g} s, of {percent:g} %; --share "
            "and --for take more"
        )
    return lines


def _gateway(engine: docker.DockerClient, project: str) -> docker.models.containers.Container:
    for one in containers.of_project(engine, project):
        if one.service == "gateway" and one.state == "running":
            return engine.containers.get(one.id)
    raise Refused("no gateway runs, so there are no live requests; `python -m deploy up` first")


@contextlib.contextmanager
def _kept(text: str) -> Iterator[None]:
    """Have the gateway read it meanwhile.

    Raises:
        Refused: another sample is being taken, or another command changes the configuration.
    """
    served.OWN.mkdir(exist_ok=True)
    with contextlib.ExitStack() as opened:
        try:
            opened.enter_context(secret_files.alone_in(served.OWN, wait=False))
        except BlockingIOError:
            raise Refused(
                "another `compare --live` takes a sample; when it ends, try again"
            ) from None
        _write(text.encode())
        try:
            yield
        finally:
            with contextlib.suppress(Refused):  # it ends by itself
                _write(None)


def _write(content: bytes | None) -> None:
    with served.changing():
        copied = served.read(served.COPY)
        if content is None:
            (served.OWN / served.SHADOW).unlink(missing_ok=True)
            copied.pop(served.SHADOW, None)
        else:
            secret_files.replace(served.OWN / served.SHADOW, content)
            copied[served.SHADOW] = content
        served.hand_over(copied)
