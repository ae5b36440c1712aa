"""What every suite may need: real digits, and a version published from them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from deploy.runner import free_ports

# The same examples every time, however slow the machine is.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("steady"), max_examples=2500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Ctrl-C and SIGTERM as the programs expect them that fixtures and tests start.

    A job that a shell put in the background ignores them, and so does a process in which an export
    has ended.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


_BESIDE = Path(__file__).parents[2] / "shared" / "data" / "mnist.npz"


def real_mnist() -> Path | None:
    """The genuine MNIST as an `.npz`, from MNIST_NPZ or beside the checkout; None without it."""
    path = Path(os.environ.get("MNIST_NPZ", _BESIDE))
    return path if path.exists() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last files first: export's train and take long, the client's are quick.

    So no worker is left alone with a long one in the end.
    """
    items.sort(key=lambda item: item.path, reverse=True)


@pytest.fixture
def closed_port() -> int:
    """A loopback port that refuses connections."""
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def mnist() -> Path | None:
    """See `real_mnist`."""
    return real_mnist()


@dataclass(frozen=True)
class Version:
    """A published version: its folder and the report of `python -m export --json`."""

    path: Path
    report: dict[str, Any]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Any:
    """What `make` returns (of JSON) for an empty folder, called once for all workers of a run."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder of its own in the run's
        run = run.parent
    with (run / f"{name}.json").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        if not (text := made.read()):
            text = json.dumps(make(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=run)).resolve()))
            made.write(text)
        return json.loads(text)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version made by the command itself, of the embedded sample of MNIST.

    A third of the epochs that the recipe has for so few images recognise 98 digits of 100, too.
    All tests of a run share it: who changes a version changes a copy.
    """

    def publish(repository: Path) -> Any:
        command = [sys.executable, "-m", "export", "--json", "--data=digits", "--epochs=30"]
        done = subprocess.run(
            [*command, f"--repository={repository}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    report = once(tmp_path_factory, "published", publish)
    return Version(Path(report["path"]), report)
