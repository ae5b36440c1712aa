"""Make a version live in steps that leave a way back, and go back.

Each step is a state of `models.config` that the servers take up, and what is written there is the
truth. A command that is killed leaves one of these states, and the next one goes on from it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from deploy import model_config
from deploy.model_config import Model
from deploy.operate.checks import server
from deploy.operate.errors import InputError, Refused
from deploy.operate.models import editing
from deploy.operate.stack import engine as engines
from deploy.operate.stack import served, settings
from deploy.release import golden, history, replicas, state
from deploy.release.errors import Unreadable
from deploy.release.golden import Answers
from deploy.release.history import DONE, Entry
from deploy.release.state import Release
from tfserving_client import ServingClient


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
        folder = served.folder_of(self.model().base_path, served.models_folder())
        with contextlib.suppress(OSError):
            return dict(sorted(model_config.versions(folder).items())) if folder else {}
        return {}

    def running(self) -> list[replicas.Replica]:
        """The servers that run."""
        return replicas.running(self.engine, self.project) if self.engine else []

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
        """Return when all servers that run do what is configured.

        Raises:
            Refused: a version failed to load, or time is up.
        """
        if self.engine:
            replicas.wait(self.engine, self.project, self.model(), timeout=self.timeout)


def promote(place: Place, number: int, *, why: str, grace: float, unchecked: bool) -> None:
    """Make a version live, in steps; it is live everywhere or nowhere.

    Args:
        place: the model and its servers.
        number: the version.
        why: for the history.
        grace: seconds during which the version of before stays loaded.
        unchecked: also where nothing says what the version must answer.

    Raises:
        InputError: there is no such version.
        Refused: no server runs, the version does not load, or it answers otherwise than it must;
            what was live before is live again.
    """
    with _alone(place):
        versions = place.versions()
        if versions and number not in versions:
            raise InputError(
                f"{place.name} has no version {number}; there are {', '.join(map(str, versions))}"
            )
        live = _live(place)
        answers = _golden(place, versions.get(number), unchecked)
        steps = f"load {number}, check it, make it live, check it again"
        place.say(f"plan    {place.name}: {live or 'nothing'} is live; {steps}")
        with _recorded(place, "promote", live, number, why):
            _load(place, live, number)
            _check(place, answers, version=number)
            _step(place, f"{number} is the candidate", Release(live, candidate=number))
            _check(place, answers, label="candidate")
            _step(place, f"{number} is live", Release(number, previous=_other(live, number)))
            _check(place, answers, label="stable")
    if live not in (None, number):
        _retire(place, number, live, grace)


def follow_newest(place: Place, *, why: str) -> None:
    """End release control: from now on the newest version is live, whichever appears."""
    with _alone(place), _recorded(place, "promote", place.release().stable, None, why):
        _step(place, "the newest version is live, whichever it is", Release())


def rollback(place: Place, *, why: str) -> int:
    """Make the version live that was before; or leave out the candidate, if there is one.

    Works without servers, too: they read it when they start.

    Returns:
        The version that is live now.

    Raises:
        Refused: there is none to go back to, or it does not load.
    """
    with _alone(place):
        release = place.release()
        live = release.stable
        target = _earlier(place, release)
        place.say(f"plan    {place.name}: {release}; go back to {target}")
        with _recorded(place, "rollback", live, target, why):
            if running := place.running():
                there = replicas.available(running, place.model())
                if target not in there:
                    _load(place, live if live in there else None, target)
            place.set(Release(target))
            try:
                place.wait()
                place.say(f"step    {target} is live")
            except Refused as error:  # a server that hangs keeps the others from nothing
                place.say(f"  !!    {error}")
        return target


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Be the only one who releases, after what became of killed commands is written down.

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
        for entry in history.read(place.name):
            if not entry.outcome:
                came = DONE if stable == entry.to else f"interrupted; {stable or 'newest'} is live"
                history.end(entry, came)
        yield


@contextlib.contextmanager
def _recorded(
    place: Place, action: str, before: int | None, to: int | None, why: str
) -> Iterator[Entry]:
    """Write down how it begins and ends; if it fails, what was live before is live again."""
    entry = history.begin(place.name, action, before, to, why)
    earlier = place.release()
    try:
        yield entry
    except BaseException as error:
        sentence = " ".join(str(error).split())
        with engines.undisturbed():
            try:
                undone = Release(before if action == "promote" else earlier.stable)
                place.say(f"undo    {place.name}: {undone}")
                place.set(undone)
            finally:
                history.end(entry, f"refused: {sentence}" if sentence else "interrupted")
        raise
    history.end(entry, DONE)


def _step(place: Place, what: str, release: Release) -> None:
    place.set(release)
    place.wait()
    place.say(f"step    {what}")


def _load(place: Place, live: int | None, number: int) -> None:
    """Have a version loaded beside the one that is live."""
    _step(place, f"{number} is loaded", Release(live, loading=number))


def _live(place: Place) -> int | None:
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
        _step(place, f"{release.stable} alone is loaded", Release(release.stable))
    return release.stable


def _retire(place: Place, number: int, previous: int, grace: float) -> None:
    """Drop the version of before, unless somebody has changed anything meanwhile."""
    place.say(
        f"grace   {previous} stays loaded for {grace:g} s; `rollback` goes back to it at once"
    )
    time.sleep(grace)
    with _alone(place):
        if place.release() == Release(number, previous=previous):
            _step(place, f"{previous} is retired", Release(number))


def _earlier(place: Place, release: Release) -> int:
    """The version to go back to: the first of these that is there."""
    if release.stable is not None and (release.candidate or release.loading):
        return release.stable
    versions = place.versions()
    newest = max(versions, default=None)
    live = release.stable if release.stable is not None else newest
    recorded = history.live_before(place.name, live) if live is not None else None
    below = max((number for number in versions if live is not None and number < live), default=None)
    choices = [one for one in (release.loading, release.previous, recorded, below) if one]
    for number in choices:
        if not versions or number in versions:
            return number
    there = ", ".join(map(str, versions)) or "none"
    raise Refused(
        f"{place.name} has no version to go back to from {live or 'nothing'}; on disk: {there}"
    )


def _golden(place: Place, folder: Path | None, unchecked: bool) -> Mapping[str, Answers]:
    """What a version must answer.

    Raises:
        Refused: nothing says so.
    """
    try:
        if folder is None:
            raise Unreadable(f"the versions of {place.name} are not on this machine")
        return golden.read(folder)
    except Unreadable as error:
        if unchecked:
            place.say(f"check   not checked: {error}")
            return {}
        raise Refused(f"{error}; --unchecked releases it all the same") from None


def _check(
    place: Place,
    answers: Mapping[str, Answers],
    *,
    version: int | None = None,
    label: str | None = None,
) -> None:
    """Hold every server to the golden answers, over both protocols.

    Raises:
        Refused: an answer is not as it must be.
    """
    if not answers:
        return
    running = place.running()
    for one in running:
        for url in (one.grpc, one.rest):
            with ServingClient(url, model=place.name) as serving:
                found = golden.disagreements(serving, answers, version=version, label=label)
            if found:
                raise Refused(f"{one.name}: {'; '.join(found)}")
    asked = f"version {version}" if label is None else f"label {label}"
    place.say(f"check   {asked} answers as it must, on {len(running)} of {len(running)} servers")


def _other(live: int | None, number: int) -> int | None:
    return None if live == number else live
