"""Which versions of a model are released: its policy and labels in `models.config`.

Under release control a model's policy names the versions that are served, and the label `stable`
says which one is live: a new folder is not served. Without it the server serves the newest.
Other labels belong to the operator: they stay, and their versions too.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.model_config import Model

_LABELS = ("stable", "candidate", "previous")


@dataclass(frozen=True, slots=True)
class Release:
    """The versions of a model in a release.

    Attributes:
        stable: the live version; None: the newest, or none while it is being replaced.
        candidate: loaded beside it for checks.
        previous: the version that was live before, still loaded for a fast rollback.
        loading: being loaded. It has no label yet: a running server refuses to move a label to a
            version that is not loaded, and keeps refusing.
    """

    stable: int | None = None
    candidate: int | None = None
    previous: int | None = None
    loading: int | None = None

    def __str__(self) -> str:
        said = [f"{label} {number}" for label, number in _labels(self).items()]
        said += [f"loading {self.loading}"] if self.loading is not None else []
        return ", ".join(said) or "the newest version is live"


def of(model: Model) -> Release:
    """The state that the configuration of a model describes."""
    loading = (model.specific or frozenset()).difference(model.labels.values())
    stable, candidate, previous = map(model.labels.get, _LABELS)
    return Release(stable, candidate, previous, max(loading, default=None))


def labels(release: Release, model: Model) -> dict[str, int]:
    """All labels of the model in that state."""
    others = {label: number for label, number in model.labels.items() if label not in _LABELS}
    return {**_labels(release), **others}


def versions(release: Release, model: Model) -> set[int]:
    """The versions of the model that are served in that state; none: the newest."""
    named = {*labels(release, model).values()}
    return named if release.loading is None else named | {release.loading}


def _labels(release: Release) -> dict[str, int]:
    numbers = (release.stable, release.candidate, release.previous)
    named = zip(_LABELS, numbers, strict=True)
    return {label: number for label, number in named if number is not None}
