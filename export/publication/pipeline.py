"""From a candidate to a version, whatever model it is: save, check, publish."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import tensorflow as tf
from matplotlib.figure import Figure

from export import interruption
from export.errors import InputError, Refused
from export.progress import say
from export.publication import card, server_config, verification, warmup
from export.publication.golden import Golden
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel

Figures = TypeVar("Figures")


class Evidence(NamedTuple):
    """What a candidate showed of itself: fields for its card, and pictures by file name."""

    card: dict[str, Any]
    pictures: Mapping[str, Figure]


class Candidate(Protocol):
    """What can be published. Its methods are called once each, in this order.

    They raise InputError for a model that cannot be served, and Refused for one that is not good
    enough.
    """

    def save(self, folder: Path) -> None:
        """Write the SavedModel into a folder."""

    def golden(self, served: ServedModel, /) -> Golden:
        """What it must answer, by the model itself."""

    def examine(self, served: ServedModel, repository: Repository) -> Evidence:
        """Measure it as the server loads it, against what was published before."""


@dataclass(frozen=True, slots=True)
class Published:
    """The new version and its model card; without path and version where it was only checked."""

    path: Path | None
    version: int | None
    card: dict[str, Any]
    removed: list[int]


def publish(
    candidate: Candidate,
    repository: Repository,
    *,
    version: int | None = None,
    keep: int | None = None,
    verify: bool = False,
    check_only: bool = False,
) -> Published:
    """Take a candidate through all that comes before a server sees it, and publish it.

    Args:
        candidate: what to publish.
        repository: where.
        version: its number; None: one above the highest.
        keep: how many of the newest versions stay; None: all.
        verify: hold it against its golden answers on a server of its own, too.
        check_only: stop before the version appears.

    Raises:
        InputError: it is not one that can be published.
        Refused: it failed a check.
        OSError: the repository cannot be written.
    """
    name = repository.folder.name
    with repository.staging() as folder:
        with _writing():
            candidate.save(folder)
        try:
            with ServedModel(folder) as served:
                golden = candidate.golden(served)
                golden.write(folder)
                with _writing():
                    warmup.write(folder, golden.requests(name, served))
                parity = golden.parity(served)
                say(f"check   served answers within {max(parity.values()):.1g} of the model's")
                golden.check(parity)
                evidence = candidate.examine(served, repository)
                model_card = card.describe(name, served.signatures, parity) | evidence.card
        except (tf.errors.OpError, RuntimeError) as error:
            raise Refused(
                f"the candidate does not answer as the server loads it: {error}"
            ) from error
        card.write(folder, model_card)
        for file, figure in evidence.pictures.items():
            figure.savefig(folder / card.PATH.with_name(file), dpi=100)
        if verify:
            verification.verify(folder, name)
        if check_only:
            return Published(None, None, model_card, [])
        interruption.last_chance()  # the rest is done in a blink and not taken back
        version = repository.publish(folder, version)
    removed = _remove_old(repository, keep, version)
    return Published(repository.folder / str(version), version, model_card, removed)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:  # TensorFlow's way to say that the disk is full
        raise InputError(f"the candidate cannot be written: {error.message}") from error


def of_newest(
    repository: Repository, measure: Callable[[ServedModel], Figures]
) -> tuple[int, Figures] | None:
    """The newest version's number, and what is measured of it; None if none can be measured."""
    versions = repository.versions()
    if not versions:
        return None
    newest = max(versions)
    try:
        with ServedModel(versions[newest]) as served:
            return newest, measure(served)
    except (tf.errors.OpError, RuntimeError, OSError, LookupError, ValueError, InputError) as error:
        say(f"check   no comparison with version {newest}: {type(error).__name__}")
        return None


def _remove_old(repository: Repository, keep: int | None, published: int) -> list[int]:
    if keep is None:
        return []
    root, name = repository.folder.parent, repository.folder.name
    try:
        named = server_config.named_versions(root, name)
        return repository.keep_newest(keep, {published} | named)
    except (InputError, OSError) as error:  # the version is published all the same
        say(f"keep    old versions are not removed: {error}")
        return []
