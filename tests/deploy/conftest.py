"""A container engine, and images that stand in for the official ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def checkout(folder: Path) -> Path:
    """A copy of what the bundle is run from, with settings of its own; `folder` is made."""
    for part in ("deploy", "client", "locks"):
        shutil.copytree(
            ROOT / part,
            folder / part,
            symlinks=True,
            # What belongs to the checkout that is tested: its machine's settings and secrets.
            ignore=lambda path, names: {
                *({"__pycache__"} & {*names}),
                *({".env", "config"} & {*names} if Path(path).name == "machine" else ()),
                *({*names} - {".gitignore"} if Path(path) == ROOT / "deploy" / "secrets" else ()),
            },
        )
    for file in (".env", ".dockerignore", ".gitignore"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose v2, or a skip; with REQUIRE_ENGINE set, or a failure."""
    for needed in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            subprocess.run(needed, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = f"no container engine with Compose: `{' '.join(needed)}` fails"
            if os.environ.get("REQUIRE_ENGINE"):
                pytest.fail(f"{reason}: {error}")
            pytest.skip(reason)


def kubectl_program() -> Path:
    """KUBECTL, or what `make setup` put into build/; or a skip."""
    given = os.environ.get("KUBECTL") or str(ROOT / "build" / "kubectl")
    if (found := shutil.which(given)) is None:
        pytest.skip("no kubectl: neither KUBECTL nor `make setup` brought one")
    return Path(found)


@pytest.fixture(scope="session")
def kubectl() -> str:
    """The folder of the kubectl that tests run."""
    return str(kubectl_program().parent)


@pytest.fixture(scope="session")
def stand_in(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """The local server behind the official image's entry point, built on the engine at hand."""
    return _built("digits-serving/stand-in:test", "--file=deploy/local/Dockerfile", ".")


@pytest.fixture(scope="session")
def nginx(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """Debian's nginx in an image."""
    return _built("digits-serving/nginx:test", "tests/deploy/images/nginx")


@pytest.fixture(scope="session")
def exporter(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """The exporter beside the gateway."""
    return _built("digits-serving/exporter:test", "--file=deploy/exporter/Dockerfile", ".")


@pytest.fixture(scope="session")
def prometheus(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """Debian's Prometheus in an image."""
    return _built("digits-serving/prometheus:test", "tests/deploy/images/prometheus")


@pytest.fixture(scope="session")
def alertmanager(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """Debian's Alertmanager in an image."""
    return _built("digits-serving/alertmanager:test", "tests/deploy/images/alertmanager")


def _built(tag: str, *what: str) -> str:
    """The tag of an image, built now; one at a time, as two builds at once make two images."""
    build = ["docker", "build", "--quiet", f"--tag={tag}", *what]
    with (Path(tempfile.gettempdir()) / "digits-serving-build").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tag
