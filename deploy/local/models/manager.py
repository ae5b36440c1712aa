"""Models and their versions: what is on disk, what is wanted, what is loaded, what is in use.

One thread looks at the disk and starts loads and unloads. A version goes through START,
LOADING, AVAILABLE, UNLOADING, END and is listed until the process ends. A new version is
loaded before an old one is unloaded; one that failed to load is never tried again.
"""

import contextlib
import dataclasses
import enum
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from deploy.local.errors import Code, ServingError, invalid
from deploy.local.models import config as model_config
from deploy.local.models.servable import Servable

_TICK_SECONDS = 0.1
_INITIAL_LOADS = 4 * len(os.sched_getaffinity(0))
_VERSION_NAME = re.compile(r"\s*[+-]?[0-9]+\s*")

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """A version's state, numbered as in ModelVersionStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Version:
    """One version that was ever wanted; changed only under the manager's lock."""

    name: str
    number: int
    path: Path
    state: State = State.START
    error: ServingError | None = None
    servable: Servable | None = None
    borrowers: int = 0

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.number}}}"


class ModelManager:
    """Keeps the configured models loaded; all methods may be called from any thread.

    Args:
        load: makes a Servable from name, version and folder, or raises ServingError.
        poll_seconds: time between looks at the disk; 0: look once, negative: never.
        retries: tries after the first one to load a version.
        retry_seconds: wait between tries.
        load_threads: versions loaded at a time after the first look; with 0 it is one,
            and nothing else happens meanwhile.
        free_labels: labels that were never assigned may point at versions not loaded.
    """

    def __init__(
        self,
        load: Callable[[str, int, Path], Servable],
        *,
        poll_seconds: float = 1,
        retries: int = 5,
        retry_seconds: float = 60,
        load_threads: int = 0,
        free_labels: bool = False,
    ) -> None:
        self._load_servable = load
        self._poll_seconds = poll_seconds
        self._retries = max(0, retries)
        self._retry_seconds = retry_seconds
        self._load_threads = load_threads
        self._free_labels = free_labels
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._config = ModelServerConfig()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._wanted: dict[str, set[int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._first_reached: dict[str, Version] = {}
        self._initial = True
        self._stopping = False
        self._thread = threading.Thread(target=self._keep, name="models", daemon=True)

    # Configuration

    def apply(self, config: ModelServerConfig) -> set[str]:
        """Serve these models, and only these, from the next look at the disk on.

        Returns:
            The names of those that were not served before, for `wait`.

        Raises:
            ServingError: the configuration is refused and the same models go on being served.
        """
        models = config.model_config_list.config
        listed = config.HasField("model_config_list")
        with self._lock:
            if self._config.HasField("model_config_list") and not listed:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Cannot transition to requested config. It is only legal to transition from"
                    " one ModelConfigList to another.",
                )
            if not listed:
                return set()
            model_config.check_names(models)
            model_config.check_platforms_kept(self._config.model_config_list.config, models)
            # Also if it is refused below: the next one is compared with what was asked for last.
            self._config = config
            self._check_labels(models)
            self._labels = {model.name: dict(model.version_labels) for model in models}
            model_config.check_platforms(models)
            before, self._models = self._models, {model.name: model for model in models}
            for name in self._models:
                _log.info(" (Re-)adding model: %s", name)
            for name in before.keys() - self._models.keys():
                self._wanted[name] = set()
            new = self._models.keys() - before.keys()
            for name in new:
                self._first_reached.pop(name, None)
            self._changed.notify_all()
            return new

    def _check_labels(self, models: Iterable[ModelConfig]) -> None:
        for model in models:
            for label, number in sorted(model.version_labels.items()):
                assigned = self._labels.get(model.name, {}).get(label, number)
                if self._free_labels and assigned == number:
                    continue
                if number not in self._available(model.name):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name},"
                        " which is not currently available for inference",
                    )

    # Life

    def start(self) -> None:
        """Begin to look for versions and to load them."""
        self._thread.start()

    def wait(self, names: Iterable[str], seconds: float | None = None) -> None:
        """Return when each model has a version that is AVAILABLE or ended; or after `stop`.

        A model that is no longer configured is not waited for.

        Raises:
            ServingError: UNKNOWN, naming the models whose first version failed;
                DEADLINE_EXCEEDED after so many seconds.
        """
        awaited = set(names)
        with self._changed:
            if not self._changed.wait_for(
                lambda: (
                    self._stopping or not awaited & self._models.keys() - self._first_reached.keys()
                ),
                seconds,
            ):
                raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
            known = sorted(awaited & self._first_reached.keys())
            reached = [self._first_reached[name] for name in known]
            noun = "servable(s)" if self._initial else "model(s)"
            self._initial = not self._config.HasField("model_config_list")
        failed = [f"{{{each} due to error: {each.error}}}, " for each in reached if each.error]
        if failed:
            what = f"{len(failed)} {noun} did not become available"
            raise ServingError(Code.UNKNOWN, f"{what}: {{{''.join(failed)}}}")

    def stop(self) -> None:
        """End the thread; what is loaded stays loaded."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _keep(self) -> None:
        """The thread: look at the disk when it is time, then act, until stopped."""
        next_look = -math.inf if self._poll_seconds >= 0 else math.inf
        while not self._stopping:
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + (self._poll_seconds or math.inf)
            for version in self._act():
                self._unload(version)
            with self._changed:
                self._changed.wait(_TICK_SECONDS)

    # What is on disk

    def _look(self) -> None:
        """Find out which versions are wanted; without every base path nothing is decided."""
        models = self._models
        found: dict[str, dict[int, Path]] = {}
        for model in models.values():
            base = model_config.base_path(model)
            try:
                found[model.name] = _version_folders(base)
            except OSError as error:
                _log.error(
                    "FileSystemStoragePathSource encountered a filesystem access error: Could not"
                    " find base path %s for servable %s with error %s",
                    *(base, model.name, error.strerror),
                )
                return
            if not found[model.name]:
                _log.warning(
                    "No versions of servable %s found under base path %s. Did you forget to name"
                    " your leaf directory as a number (eg. '/1/')?",
                    *(model.name, base),
                )
        with self._lock:
            for name, folders in found.items():
                if models[name] is self._models.get(name):
                    self._want(name, folders, model_config.wanted(models[name], folders))

    def _want(self, name: str, folders: dict[int, Path], wanted: set[int]) -> None:
        self._wanted[name] = wanted
        versions = self._versions.setdefault(name, {})
        for number in wanted:
            known = versions.get(number)
            if known is None or (known.state is State.END and not known.error):
                versions[number] = Version(name, number, folders[number])
        # A model that is configured again may bring nothing new to wait for.
        settled = [versions[number] for number in sorted(wanted)]
        if settled and all(each.state is State.AVAILABLE or each.error for each in settled):
            self._first_reached.setdefault(name, settled[-1])
            self._changed.notify_all()

    # What to do about it

    def _act(self) -> list[Version]:
        """Start what can be started; returns the versions that no request uses any more."""
        with self._lock:
            limit = _INITIAL_LOADS if self._initial else max(1, self._load_threads)
            loading = sum(version.state is State.LOADING for version in self._all())
            if loading and not self._initial and self._load_threads == 0:
                return []
            for name, versions in self._versions.items():
                self._give_up(versions, self._wanted[name])
            for version in sorted(self._all(), key=lambda version: -version.number):
                if version.state is State.START:
                    if version.number not in self._wanted[version.name]:
                        version.state = State.END
                    elif loading < limit:
                        loading += 1
                        version.state = State.LOADING
                        threading.Thread(target=self._load, args=[version], daemon=True).start()
            return [
                version
                for version in self._all()
                if version.state is State.UNLOADING and not version.borrowers
            ]

    def _all(self) -> list[Version]:
        return [version for versions in self._versions.values() for version in versions.values()]

    @staticmethod
    def _give_up(versions: dict[int, Version], wanted: set[int]) -> None:
        """Mark unwanted versions, but for the newest while no wanted one is there yet."""
        available = {n for n, version in versions.items() if version.state is State.AVAILABLE}
        unwanted = available - wanted
        if wanted and unwanted == available:
            unwanted -= {max(unwanted, default=0)}
        for number in unwanted:
            versions[number].state = State.UNLOADING

    def _load(self, version: Version) -> None:
        """A thread of its own: load one version, with retries."""
        _log.info("Loading servable version %s", version)
        servable, error = None, None
        for attempt in range(self._retries + 1):
            if attempt and not self._wait_to_retry(version):
                break
            try:
                servable = self._load_servable(version.name, version.number, version.path)
            except ServingError as problem:
                error = problem
            except Exception as problem:  # a broken model must not end the server
                error = ServingError(Code.INTERNAL, f"{type(problem).__name__}: {problem}")
            else:
                error = None
                break
            _log.error("Loading servable version %s failed: %s", version, error)
        with self._changed:
            version.servable, version.error = servable, error
            version.state = State.END if error else State.AVAILABLE
            self._first_reached.setdefault(version.name, version)
            self._changed.notify_all()
        if servable:
            _log.info("Successfully loaded servable version %s", version)

    def _wait_to_retry(self, version: Version) -> bool:
        """Wait as long as a failed load must; whether the version is still wanted then."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, max(0, self._retry_seconds))
            return not self._stopping and version.number in self._wanted[version.name]

    def _unload(self, version: Version) -> None:
        assert version.servable is not None
        version.servable.close()
        with self._changed:
            version.servable, version.state = None, State.END
        _log.info("Done unloading servable version %s", version)

    # Use

    @contextlib.contextmanager
    def borrow(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The loaded version that a request means, kept loaded until the block ends.

        Raises:
            ServingError: no name, an unknown label, or nothing loaded under that name.
        """
        version = self._find(spec)
        try:
            assert version.servable is not None
            yield version.servable
        finally:
            with self._lock:
                version.borrowers -= 1

    def _find(self, spec: model_pb2.ModelSpec) -> Version:
        """The version meant, with one more borrower."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        with self._lock:
            choice = spec.WhichOneof("version_choice")
            number = spec.version.value if choice == "version" else None
            if choice == "version_label":
                number = self._labels.get(spec.name, {}).get(spec.version_label)
                if number is None:
                    raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            available = self._available(spec.name)
            version = available.get(max(available, default=0) if number is None else number)
            if version is None:
                what = (
                    f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                )
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {what}")
            version.borrowers += 1
            return version

    def _available(self, name: str) -> dict[int, Version]:
        versions = self._versions.get(name, {})
        return {n: version for n, version in versions.items() if version.state is State.AVAILABLE}

    def names(self) -> list[str]:
        """The configured models, as they are listed."""
        with self._lock:
            return list(self._models)

    def states(self, name: str) -> list[tuple[int, State, ServingError | None]]:
        """Number, state and error of every version that was ever wanted, highest first."""
        with self._lock:
            versions = self._versions.get(name, {})
            return [(n, versions[n].state, versions[n].error) for n in sorted(versions)[::-1]]


def _version_folders(base: Path) -> dict[int, Path]:
    """Children of a base path whose whole name is a 64-bit number, whatever they are."""
    children = sorted(base.iterdir())
    named = {int(child.name): child for child in children if _VERSION_NAME.fullmatch(child.name)}
    return {number: child for number, child in named.items() if -(2**63) <= number < 2**63}
