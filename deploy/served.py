"""How what a replica serves differs from its configuration.

The server reports this only in its log: it keeps its old configuration, and looks healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.model_config import Model, versions
from tfserving_client import (
    NotFound,
    Policy,
    Rejected,
    ServingClient,
    ServingError,
    State,
    VersionStatus,
)


class Kind(StrEnum):
    """The kind of a difference."""

    FAILED = "failed"  # a configured version could not be loaded
    CONFIGURATION = "configuration"  # the server does not follow the file
    WAITING = "waiting"  # a configured version is not loaded yet


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, as a sentence; `version` is None if it concerns no particular version."""

    kind: Kind
    model: str
    version: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica reports about a model.

    Attributes:
        versions: all that it knows, also failed and unloaded ones.
        labels: configured label → the version that answers for it, None if none does.
    """

    versions: Sequence[VersionStatus]
    labels: Mapping[str, int | None]

    @property
    def available(self) -> frozenset[int]:
        """The versions that answer."""
        return frozenset(v.version for v in self.versions if v.state is State.AVAILABLE)


def everywhere(answers: Sequence[Served]) -> frozenset[int]:
    """The versions that are AVAILABLE on all of these replicas; none without replicas."""
    return frozenset.intersection(*(one.available for one in answers)) if answers else frozenset()


def ask(url: str, model: str, labels: Sequence[str], policy: Policy) -> Served | None:
    """Ask a replica about a model; None if it gives no valid answer."""
    try:
        with ServingClient(url, model=model, policy=policy) as serving:
            try:
                known = serving.status()
            except NotFound:
                return Served((), dict.fromkeys(labels))
            return Served(known, {label: _labelled(serving, label) for label in labels})
    except ServingError:
        return None


def _labelled(serving: ServingClient, label: str) -> int | None:
    try:
        return serving.metadata(label=label).version
    except (NotFound, Rejected):
        return None


def differences(
    model: Model, served: Served, see: Callable[[str], Path] = Path
) -> Iterator[Difference]:
    """What differs from the configuration and the folders.

    A failed version whose folder is gone, or that a newer one replaced, is ignored, although the
    server lists it forever.

    Args:
        model: its configuration.
        served: what a replica reports about it.
        see: maps a path of the server to a path here.
    """
    try:
        there = versions(see(model.base_path))
    except OSError as error:
        yield _not_taken_up(
            model.name,
            f"its base path {model.base_path} cannot be read ({error.strerror}), so no model "
            "gets a new version",
        )
        return
    yield from differences_of(model, served, there)


def differences_of(model: Model, served: Served, there: Iterable[int]) -> Iterator[Difference]:
    """What is not as the configuration says, as `differences`, of these versions on disk."""
    wanted = model.wanted(there)
    if not served.versions:
        if wanted:
            yield _not_taken_up(model.name, "the server does not know it")
        return
    errors = {one.version: one.error for one in served.versions if one.error}
    for number in sorted(wanted - served.available):
        if number in errors:
            what = f"version {number} of {model.name} failed to load: {errors[number]}"
            yield Difference(Kind.FAILED, model.name, number, what)
        else:
            what = f"version {number} of {model.name} is not served yet"
            yield Difference(Kind.WAITING, model.name, number, what)
    # While a configured version is missing, the server keeps others instead.
    for number in sorted(served.available - wanted) if wanted <= served.available else ():
        yield _not_taken_up(model.name, f"version {number} is served, which its policy leaves out")
    for label, number in model.labels.items():
        if (answering := served.labels[label]) != number:
            instead = "no version" if answering is None else f"version {answering}"
            yield _not_taken_up(
                model.name,
                f"{instead} answers to the label {label!r}, which is for {number}",
            )


def not_configured(model: str, served: Served) -> Iterator[Difference]:
    """What is still served of a model that is no longer configured."""
    if served.available:
        yield _not_taken_up(model, "it is served, although it is not configured any more")


def _not_taken_up(model: str, what: str) -> Difference:
    return Difference(Kind.CONFIGURATION, model, None, f"{model}: {what}")
