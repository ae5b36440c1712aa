"""The images of the containers: pulled or built before running containers change."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable

import docker

from deploy.operate import interrupts
from deploy.operate.errors import Refused
from deploy.operate.stack.engine import Compose
from tfserving_client.command.progress import Progress

_LOOK = 0.3  # seconds between two checks


def fetch(engine: docker.DockerClient, compose: Compose, services: Iterable[str]) -> None:
    """Pull missing images, and build those that may have changed.

    Raises:
        Refused: an image is not available.
    """
    for name in services:
        service = compose.config["services"][name]
        if "build" in service:
            _build(compose, name)
        else:
            _need(engine, service["image"])


def _need(engine: docker.DockerClient, image: str) -> None:
    """Pull an image if it is missing."""
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.get(image)
        return
    print(f"pull    {image}", file=sys.stderr)
    layers: dict[str, tuple[int, int]] = {}  # done and total, in bytes

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
    """Build an image again if anything in it has changed."""
    print(f"build   {service}", file=sys.stderr)
    with (
        compose.running("build", service) as ended,
        Progress(lambda seconds: f"        {seconds:.0f} s"),
    ):
        while not ended():
            interrupts.pause(_LOOK)
