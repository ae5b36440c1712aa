"""One model where it is served: what is live, and how that is changed by a step.

A place is this machine (`machine`) or a cluster (`cluster`). What a release does is the same in
both; what they do differently is what is abstract here.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy import model_config
from deploy.model_config import ConfigError, Model
from deploy.operate import interrupts
from deploy.operate.errors import InputError, Refused
from deploy.operate.models import editing
from deploy.operate.stack.served import MODELS
from deploy.release import history, replicas, state
from deploy.release.history import DONE
from deploy.release.replicas import Replica
from deploy.release.state import Release
from deploy.served import Difference, Served
from tfserving_client.command.progress import Progress

SERVING = "serving"


@dataclass
class Place(ABC):
    """One model, and the servers that serve it.

    Attributes:
        name: of the model.
        say: takes a line of progress.
        timeout: seconds that the servers have for each step.
        prometheus: where it answers, if it runs.
    """

    name: str
    say: Callable[[str], None]
    timeout: float
    prometheus: str

    start_servers: ClassVar[str]  # the command that does
    drain: ClassVar[float]  # seconds until the gateway has read a change, and calls are answered

    @property
    @abstractmethod
    def log(self) -> history.Log:
        """Where releases are written down."""

    @property
    def within(self) -> str:
        """The namespace that Prometheus calls it by; "" where it watches nothing else."""
        return ""

    @abstractmethod
    def changing(self) -> contextlib.AbstractContextManager[None]:
        """Be the only one who changes the configuration.

        Raises:
            Refused: another command does, or the servers read another configuration.
        """

    @abstractmethod
    def read(self, file: str) -> str | None:
        """A file of the configuration; None if there is none."""

    @abstractmethod
    def called(self, file: str) -> str:
        """Where it is, for a sentence."""

    @abstractmethod
    def write(self, files: Mapping[str, str | None]) -> None:
        """Replace files of the configuration, or remove them, and hand them to the servers.

        Raises:
            Refused: it would add an error to the configuration.
        """

    @abstractmethod
    def versions(self) -> Mapping[int, Path]:
        """Version → its folder on this machine, in order; empty if it is stored elsewhere."""

    @abstractmethod
    def folder(self, number: int) -> Path | None:
        """The folder of a version; None if versions are stored elsewhere.

        Raises:
            InputError: there is no such version.
        """

    @abstractmethod
    def callers(self) -> list[str]:
        """The names of the keys that work."""

    @abstractmethod
    def running(self, service: str = SERVING) -> Sequence[Replica]:
        """The running servers of a service."""

    @abstractmethod
    def start(self, service: str) -> None:
        """Have a server of a service that runs.

        Raises:
            Refused: it is not healthy in time.
        """

    @abstractmethod
    def stop(self, service: str) -> None:
        """Have none."""

    @abstractmethod
    def is_starting(self, one: Replica) -> bool:
        """Whether a server has answered nobody yet, as one that waits for its first version."""

    @abstractmethod
    def restart(self, one: Replica) -> None:
        """Restart a server."""

    @abstractmethod
    def differences(self, model: Model, answer: Served) -> Iterable[Difference]:
        """What a server does otherwise than it is configured, by what it says of a model."""

    def models(self, file: str = MODELS) -> tuple[Model, ...]:
        """The models that a file of the configuration says.

        Raises:
            Refused: it is not there, or cannot be read.
        """
        try:
            return model_config.parsed(self.read(file) or "", self.called(file))
        except ConfigError as error:
            raise Refused(str(error)) from None

    def model(self, file: str = MODELS) -> Model:
        """Its configuration.

        Raises:
            Refused: the configuration cannot be read.
            InputError: it is not configured.
        """
        models = {one.name: one for one in self.models(file)}
        if self.name not in models:
            raise InputError(
                f"{self.name} is not configured; configured: {', '.join(models) or 'none'}"
            )
        return models[self.name]

    def release(self) -> Release:
        """The versions in its release."""
        return state.of(self.model())

    def set(self, release: Release) -> None:
        """Write a state and give it to the servers, which may not run.

        Raises:
            Refused: as `write`.
        """
        model = self.model()
        numbers, labels = state.versions(release, model), state.labels(release, model)
        self.write({MODELS: self.serving(numbers, labels)})

    def serving(self, versions: Iterable[int], labels: Mapping[str, int]) -> str:
        """A `models.config` like the one there, in which the model serves these versions."""
        return editing.serving(self.read(MODELS) or "", self.name, versions, labels)

    def wait(self, service: str = SERVING, file: str = MODELS) -> None:
        """Return when all servers of a service that run do what is configured.

        At once if no server at all runs.

        Raises:
            Refused: a version failed to load, or time is up.
        """
        if service != SERVING or self.running():
            replicas.wait(
                lambda: self.running(service),
                self.model(file),
                self.differences,
                timeout=self.timeout,
            )

    def restart_starting(self) -> None:
        """Restart the servers that have not answered yet.

        While a server waits for its first version, it does not read its configuration again.
        """
        for one in filter(self.is_starting, self.running()):
            self.say(f"restart {one.name}, which waits for a version")
            self.restart(one)

    def step(self, what: str, release: Release) -> None:
        """Bring the servers to a state.

        Raises:
            Refused: as `set` and `wait`.
        """
        self.set(release)
        self.wait()
        self.say(f"step    {what}")

    def rest(self, what: str, seconds: float) -> None:
        """Wait, and show the time."""
        self.say(f"{what}, {seconds:g} s")
        with Progress(lambda passed: f"        {passed:.0f} of {seconds:g} s"):
            interrupts.pause(seconds)


@contextlib.contextmanager
def alone(place: Place) -> Iterator[bool]:
    """Hold the lock for releases, after the outcome of killed commands is recorded.

    Yields:
        Whether a command was killed before its version was live.

    Raises:
        Refused: as `Place.changing`.
    """
    with place.changing():
        stable = place.release().stable
        interrupted = False
        for entry in history.read(place.log, place.name):
            if not entry.outcome:
                done = stable == entry.to
                interrupted |= not done
                outcome = DONE if done else f"interrupted; {stable or 'newest'} is live"
                history.end(place.log, entry, outcome)
        yield interrupted


def live_version(place: Place) -> int | None:
    """The version that is live, on all servers; removes an old candidate.

    Raises:
        Refused: no server runs.
    """
    running, release = place.running(), place.release()
    if not running:
        raise Refused(
            f"no server runs, so none can load and check the version; `{place.start_servers}` first"
        )
    if release.stable is None:
        return max(replicas.available(running, place.model()), default=None)
    if release != Release(release.stable):
        place.step(f"{release.stable} alone is loaded", Release(release.stable))
    return release.stable
