"""This machine as the place of a release: Compose's services, and files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from deploy import served as answers
from deploy.model_config import Model
from deploy.operate.access import keys, secret_files
from deploy.operate.checks import server
from deploy.operate.errors import InputError, Refused
from deploy.operate.models import on_disk
from deploy.operate.stack import lifecycle, served, settings
from deploy.operate.stack.engine import Compose
from deploy.operate.stack.lifecycle import CANARY_PROFILE
from deploy.release import history, replicas, state
from deploy.release.place import SERVING, Place
from deploy.release.replicas import Replica
from deploy.served import Difference, Served


@dataclass
class Machine(Place):
    """One model of this machine.

    Attributes:
        engine: on which the servers run; None where no engine answers.
        project: the bundle's, for Compose.
    """

    engine: docker.DockerClient | None
    project: str

    start_servers = "python -m deploy up"
    drain = 5

    @property
    def log(self) -> history.Log:
        """This machine's."""
        return history.Machine()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one who changes the configuration, which the servers have.

        Raises:
            Refused: another command does, or the servers read another configuration.
        """
        with served.changing():
            if self.running() and not served.AS_SETTING.items() <= settings.read().items():
                raise Refused(
                    "the servers that run read another configuration than this machine's; "
                    "`python -m deploy up` gives it to them"
                )
            served.hand_over(served.source())
            yield

    def read(self, file: str) -> str | None:
        """As it is written: this machine's own, or the bundle's."""
        path = served.place(file)
        return path.read_text() if path.exists() else None

    def called(self, file: str) -> str:
        """Its path."""
        return str(served.place(file))

    def write(self, files: Mapping[str, str | None]) -> None:
        """Make them this machine's own, and hand all of them over.

        Raises:
            Refused: it would bring the configuration an error that it does not have yet.
        """
        if models := files.get(served.MODELS):
            self._check(models.encode())
        served.OWN.mkdir(exist_ok=True)
        for name, text in files.items():
            if text is None:
                (served.OWN / name).unlink(missing_ok=True)
            else:
                secret_files.replace(served.OWN / name, text.encode())
        served.hand_over(served.source())
        _keep_candidate((served.OWN / served.CANARY).exists())

    def _check(self, models: bytes) -> None:
        files, root = served.source(), served.models_folder()
        running = served.read(served.COPY).get(served.MODELS, b"") if self.running() else b""
        known = {*server.problems(files, root, running)}
        for problem in server.problems({**files, served.MODELS: models}, root, running):
            if problem not in known:
                raise Refused(problem)

    def versions(self) -> Mapping[int, Path]:
        """Version → its folder, in order; none of a model that lies elsewhere."""
        with contextlib.suppress(InputError):
            return on_disk.versions(self.name)
        return {}

    def folder(self, number: int) -> Path | None:
        """Where a version lies; None where versions lie elsewhere.

        Raises:
            InputError: there is no such version.
        """
        return on_disk.version(self.name, number)[1] if self.versions() else None

    def callers(self) -> list[str]:
        """The names of the keys that work."""
        return [key.name for key in keys.read() if not key.ended]

    def running(self, service: str = SERVING) -> list[Replica]:
        """The containers of a service that run."""
        return replicas.running(self.engine, self.project, service) if self.engine else []

    def start(self, service: str) -> None:
        """Start a container of the service beside what runs.

        Raises:
            Refused: it is not healthy in time; says why.
        """
        assert self.engine  # where none answers, no version is live
        lifecycle.start(self.engine, _compose(), service, timeout=self.timeout)

    def stop(self, service: str) -> None:
        """Remove its containers."""
        _compose().run("rm", "--stop", "--force", "--volumes", service)

    def is_starting(self, one: Replica) -> bool:
        """Whether it has opened no port yet."""
        return replicas.is_starting(one)

    def restart(self, one: Replica) -> None:
        """Restart its container."""
        assert self.engine  # or none would run
        self.engine.containers.get(one.id).restart()

    def differences(self, model: Model, answer: Served) -> Iterable[Difference]:
        """By the versions in the models' folder."""

        def see(path: str) -> Path:
            return served.folder_of(path, served.models_folder()) or Path(path)

        return answers.differences(model, answer, see)


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
        raise InputError(
            f"{name} has no version to compare {number} with; name a second version: N M"
        )
    return max(below)


def _keep_candidate(whether: bool) -> None:
    """Make every later command on this machine keep the candidate's server, or not."""
    known = settings.read()
    profiles = {*filter(None, known.get("COMPOSE_PROFILES", "").split(","))}
    wanted = profiles | {CANARY_PROFILE} if whether else profiles - {CANARY_PROFILE}
    if wanted != profiles:
        settings.write({**known, "COMPOSE_PROFILES": ",".join(sorted(wanted))})


def _compose() -> Compose:
    return Compose(profiles=[CANARY_PROFILE])
