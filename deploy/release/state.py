"""Which versions of a model are released, as `models.config` says by its policy and its labels.

Under release control a model has a label `stable`, and its policy names versions: a folder that
appears is not served. Without it the server serves the newest. Labels of other names are the
operator's own: they stay, and their versions with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.model_config import Model

_LABELS = ("stable", "candidate", "previous")


@dataclass(frozen=True, slots=True)
class Release:
    """The versions of a model that have a part in its release.

    Attributes:
        stable: the one that is live; None: whichever is newest, or none while it is being replaced.
        candidate: loaded beside it, and not live yet.
        previous: the one that was live before, still loaded, so that going back takes no time.
    """

    stable: int | None = None
    candidate: int | None = None
    previous: int | None = None

    @property
    def labels(self) -> dict[str, int]:
        """Label → version."""
        numbers = (self.stable, self.candidate, self.previous)
        return {
            label: number
            for label, number in zip(_LABELS, numbers, strict=True)
            if number is not None
        }

    def __str__(self) -> str:
        said = [f"{label} {number}" for label, number in self.labels.items()]
        return ", ".join(said) or "the newest version is live"


def of(model: Model) -> Release:
    """What is said of a model."""
    return Release(*map(model.labels.get, _LABELS))


def labels_with(release: Release, model: Model) -> Mapping[str, int]:
    """All labels of the model in that state."""
    others = {label: number for label, number in model.labels.items() if label not in _LABELS}
    return {**release.labels, **others}
