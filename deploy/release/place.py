"""One model of this machine with its servers: what is live, and how that is changed by a step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from deploy.model_config import Model
from deploy.operate import interrupts
from deploy.operate.checks import server
from deploy.operate.errors import InputError, Refused
from deploy.operate.models import editing, on_disk
from deploy.operate.stack import served, settings
from deploy.release import history, replicas, state
from deploy.release.history import DONE
from deploy.release.state import Release
from tfserving_client.command.progress import Progress


@dataclass(frozen=True, slots=True)
class Place:
    """One model of this machine, and the servers that serve it.

    Attributes:
        name: the model's.
        engine: on which the servers run; None where no engine answers.
        project: the bundle's, for Compose.
        say: takes a line of progress.
        timeout: seconds that the servers have for each step.
    """

    name: str
    engine: docker.DockerClient | None
    project: str
    say: Callable[[str], None]
    timeout: float

    def model(self) -> Model:
        """As it is configured.

        Raises:
            Refused: the configuration cannot be read.
            InputError: it is not configured.
        """
        models = {one.name: one for one in served.models()}
        if self.name not in models:
            raise InputError(
                f"{self.name} is not configured; what is: {', '.join(models) or 'nothing'}"
            )
        return models[self.name]

    def release(self) -> Release:
        """Its versions that have a part in its release."""
        return state.of(self.model())

    def versions(self) -> Mapping[int, Path]:
        """Version → its folder on this machine, in order; none of a model that lies elsewhere."""
        with contextlib.suppress(InputError):
            return on_disk.versions(self.name)
        return {}

    def folder(self, number: int) -> Path | None:
        """Where a version lies; None where versions lie elsewhere.

        Raises:
            InputError: there is no such version.
        """
        return on_disk.version(self.name, number)[1] if self.versions() else None

    def running(self, service: str = "serving") -> list[replicas.Replica]:
        """The servers of a service that run."""
        return replicas.running(self.engine, self.project, service) if self.engine else []

    @property
    def prometheus(self) -> str:
        """Where Prometheus answers, if it runs."""
        return f"http://localhost:{os.environ.get('PROMETHEUS_PORT') or 9090}"

    def set(self, release: Release) -> None:
        """Write a state down and hand it to the servers, whether they run or not.

        Raises:
            Refused: it would bring the configuration an error that it does not have yet.
        """
        model = self.model()
        text = editing.serving(
            served.place(served.MODELS).read_text(),
            self.name,
            state.versions(release, model),
            state.labels(release, model),
        )
        files, root = served.source(), served.models_folder()
        running = served.read(served.COPY).get(served.MODELS, b"") if self.running() else b""
        known = {*server.problems(files, root, running)}
        after = {**files, served.MODELS: text.encode()}
        for problem in server.problems(after, root, running):
            if problem not in known:
                raise Refused(problem)
        served.write_models(text)
        served.hand_over(after)

    def wait(self) -> None:
        """Return when all servers that run do what is configured; at once if none does.

        Raises:
            Refused: a version failed to load, or time is up.
        """
        if self.engine and self.running():
            replicas.wait(self.engine, self.project, self.model(), timeout=self.timeout)

    def restart_starting(self) -> None:
        """Start those servers anew that have not answered yet.

        While a server waits for its first version, it does not read its configuration again.
        """
        for one in filter(replicas.is_starting, self.running()):
            self.say(f"restart {one.name}, which waits for a version")
            assert self.engine  # or none would run
            self.engine.containers.get(one.id).restart()

    def step(self, what: str, release: Release) -> None:
        """Bring the servers to a state.

        Raises:
            Refused: as `set` and `wait`.
        """
        self.set(release)
        self.wait()
        self.say(f"step    {what}")

    def rest(self, what: str, seconds: float) -> None:
        """Let time pass; how much of it is left is shown."""
        self.say(f"{what}, {seconds:g} s")
        with Progress(lambda passed: f"        {passed:.0f} of {seconds:g} s"):
            interrupts.pause(seconds)


@contextlib.contextmanager
def alone(place: Place) -> Iterator[bool]:
    """Be the only one who releases, after what became of killed commands is written down.

    Yields:
        Whether one of them was killed before its version was live.

    Raises:
        Refused: another command changes the configuration, or the servers read another one.
    """
    with served.changing():
        if place.running() and not served.AS_SETTING.items() <= settings.read().items():
            raise Refused(
                "the servers that run read another configuration than this machine's; "
                "`python -m deploy up` gives it to them"
            )
        served.hand_over(served.source())
        stable = place.release().stable
        interrupted = False
        for entry in history.read(place.name):
            if not entry.outcome:
                done = stable == entry.to
                interrupted |= not done
                history.end(entry, DONE if done else f"interrupted; {stable or 'newest'} is live")
        yield interrupted


def live_version(place: Place) -> int | None:
    """The version that is live, on all servers; a candidate that was left is left out.

    Raises:
        Refused: no server runs.
    """
    running, release = place.running(), place.release()
    if not running:
        raise Refused(
            "no server runs, so none can load and check the version; `python -m deploy up` first"
        )
    if release.stable is None:
        return max(replicas.available(running, place.model()), default=None)
    if release != Release(release.stable):
        place.step(f"{release.stable} alone is loaded", Release(release.stable))
    return release.stable


def live_or_below(name: str, number: int) -> int:
    """The version to compare another one with: what is live, else the one below it on disk.

    Raises:
        InputError: there is none.
    """
    model = next((one for one in served.models() if one.name == name), None)
    stable = state.of(model).stable if model else None
    if stable not in (None, number):
        return stable
    below = [one for one in on_disk.versions(name) if one < number]
    if not below:
        raise InputError(f"{name} has no version to compare {number} with; name one: N M")
    return max(below)
