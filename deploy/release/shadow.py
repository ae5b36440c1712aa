"""A sample of live requests, which the gateway keeps as long as a configuration file says.

    mnist 1 5 1796058000

The model, the share of its requests in percent, the limit of requests per second, and the end, in
seconds since 1970. The gateway stops by itself then, even if this command is killed.
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

_FOLDER = "/run/gateway/shadow"  # in the gateway; one folder for each sample, named by its end
_TAKEN_UP = 15.0  # seconds until the gateway has read it; it takes one or two
_LOOK = 0.25  # seconds between two checks


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
    """Make the gateway keep some of the requests to a model; the callers notice nothing.

    Args:
        engine: the engine of the gateway.
        project: Compose's name of the bundle.
        model: name of the model.
        percent: share of its requests.
        rate: requests per second, at most.
        seconds: length of the sample.
        say: takes a line of progress.

    Returns:
        The requests, one for each line; `requests.of_lines` reads them.

    Raises:
        Refused: no gateway runs, or it keeps no requests; another sample is being taken; there was
            no request.
    """
    gateway = _gateway(engine, project)
    until = int(time.time()) + 1 + seconds
    with _kept(f"{model} {percent:g} {rate} {until}\n"):
        begun = time.monotonic()
        while gateway.exec_run(["test", "-d", f"{_FOLDER}/{until}"]).exit_code:
            if time.monotonic() > begun + _TAKEN_UP:
                raise Refused(
                    "the gateway keeps no requests: it reads another configuration, which `python "
                    "-m deploy up` fixes, or its nginx has no JavaScript module, as the official "
                    "image has"
                )
            time.sleep(_LOOK)
        say(
            f"sample  {percent:g} % of the requests to {model}, at most {rate} per second, "
            f"{seconds:g} s"
        )
        with Progress(lambda passed: f"        {passed:.0f} of {seconds:g} s"):
            time.sleep(max(0, until - time.time()))
        show = f"cat {_FOLDER}/{until}/* 2>/dev/null"
        lines: bytes = gateway.exec_run(["sh", "-c", show]).output
    if not lines:
        raise Refused(
            f"no request to {model} was kept in {seconds:g} s, with a share of {percent:g} %; "
            "raise --share or --for"
        )
    return lines


def _gateway(engine: docker.DockerClient, project: str) -> docker.models.containers.Container:
    for one in containers.of_project(engine, project):
        if one.service == "gateway" and one.state == "running":
            return engine.containers.get(one.id)
    raise Refused("no gateway runs, so there are no live requests; `python -m deploy up` first")


@contextlib.contextmanager
def _kept(text: str) -> Iterator[None]:
    """Let the gateway read this text inside the `with`.

    Raises:
        Refused: another sample is being taken, or another command changes the configuration.
    """
    served.OWN.mkdir(exist_ok=True)
    with contextlib.ExitStack() as opened:
        try:
            opened.enter_context(secret_files.alone_in(served.OWN, wait=False))
        except BlockingIOError:
            raise Refused(
                "another `compare --live` takes a sample; try again when it has ended"
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
