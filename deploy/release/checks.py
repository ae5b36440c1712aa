"""Check running servers against the golden answers of a version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.operate.errors import Refused
from deploy.release import golden
from deploy.release.errors import Unreadable
from deploy.release.golden import Answers
from deploy.release.place import Place
from tfserving_client import ServingClient

_TIMEOUT = 60  # seconds for all golden rows of a signature; a busy machine takes a while


def golden_answers(
    place: Place, folder: Path | None, *, without_golden: bool = False
) -> Mapping[str, Answers]:
    """The golden answers of a version.

    Raises:
        Refused: it has none.
    """
    try:
        if folder is None:
            raise Unreadable(f"the versions of {place.name} are not on this machine")
        return golden.read(folder)
    except Unreadable as error:
        if without_golden:
            place.say(f"check   not checked: {error}")
            return {}
        raise Refused(f"{error}; --without-golden releases it without this check") from None


def check(
    place: Place,
    answers: Mapping[str, Answers],
    service: str = "serving",
    *,
    version: int | None = None,
    label: str | None = None,
) -> None:
    """Check every server of a service against the golden answers, over both protocols.

    Raises:
        Refused: an answer differs.
    """
    if not answers:
        return
    running = place.running(service)
    for one in running:
        for url in (one.grpc, one.rest):
            with ServingClient(url, model=place.name, timeout=_TIMEOUT) as serving:
                found = golden.disagreements(serving, answers, version=version, label=label)
            if found:
                raise Refused(f"{one.name}: {'; '.join(found)}")
    asked = f"version {version}" if label is None else f"label {label}"
    place.say(
        f"check   {asked} gives its golden answers, on {len(running)} of {len(running)} servers"
    )
