"""The client as its users have it: a wheel in an environment of its own, far from this checkout."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "client"
_NO_INDEX = ("from versions: none", "connection broken by")  # what pip says without a network


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command far from the source tree, which nothing in its environment names."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        # gRPC may tell on standard error how a server went away.
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "NONE", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def shared(factory: pytest.TempPathFactory) -> Path:
    """The folder that every module of one test run builds and installs in."""
    folder = factory.getbasetemp() / "installed"
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def wheel(folder: Path) -> Path:
    """Build the wheel of `client/`, once for each folder."""
    build = [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={folder}"]
    done = subprocess.run(build, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@functools.cache
def environment(folder: Path) -> Path:
    """Install the wheel with what it depends on and nothing else; the environment's Python.

    The dependencies are links to those of this environment, so no index is asked.
    """
    home = folder / "bare"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python3.*/site-packages")
    done = pip(folder, "--python", home, "install", "--no-deps", "--no-index", wheel(folder))
    assert done.returncode == 0, done.stderr
    (metadata,) = site.glob("tfserving_client-*.dist-info")
    wanted: list[Distribution] = [Distribution.at(metadata)]
    linked: set[str] = set()
    while wanted:
        for requirement in wanted.pop().requires or []:
            name = re.split(r"[^\w.-]", requirement)[0]
            if "extra ==" not in requirement and name not in linked:
                linked.add(name)
                wanted.append(distribution(name))
                _link(wanted[-1], site)
    return home / "bin/python"


def _link(found: Distribution, site: Path) -> None:
    for file in found.files or []:
        if file.parts[0] in {"..", "__pycache__"}:
            continue
        at = Path(str(found.locate_file("")))
        # A package is linked as a whole. Of a namespace, such as google, only what is this one's.
        package = (at / file.parts[0] / "__init__.py").exists() or len(file.parts) == 1
        name = Path(*file.parts[: 1 if package else 2])
        if not (site / name).exists():
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).symlink_to(at / name)


def pip(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip."""
    quiet = ("--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=20")
    return run(sys.executable, "-m", "pip", *quiet, *arguments, cwd=cwd)


def fetch(target: Path, *arguments: object) -> Path:
    """Install from the index into a folder; skip the test where none can be reached."""
    options = ("--no-compile", "--only-binary=:all:", "--target", target)
    done = pip(target.parent, "install", *options, *arguments)
    if done.returncode and any(sign in done.stderr for sign in _NO_INDEX):
        pytest.skip(f"no package index can be reached for {' '.join(map(str, arguments))}")
    if done.returncode:  # a download may break off
        done = pip(target.parent, "install", "--upgrade", *options, *arguments)
    assert done.returncode == 0, done.stderr
    return target
