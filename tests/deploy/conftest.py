"""A container engine, and an image that stands in for the official one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = "digits-serving/stand-in:test"


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose v2, or a skip; with REQUIRE_ENGINE set, or a failure."""
    try:
        docker.from_env().close()
        missing = "" if shutil.which("docker") else "the docker command is missing"
        if not missing:
            version = ["docker", "compose", "version"]
            done = subprocess.run(version, capture_output=True, text=True, check=False)
            missing = "" if done.returncode == 0 else "Compose v2 is missing"
    except docker.errors.DockerException as error:
        missing = f"no container engine answers: {error}"
    if missing and os.environ.get("REQUIRE_ENGINE"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def stand_in(engine: None) -> str:  # noqa: ARG001 (needed, not used)
    """The local server behind the official image's entry point, built on the engine at hand."""
    build = ["docker", "build", "--quiet", f"--tag={STAND_IN}", "--file=deploy/local/Dockerfile"]
    done = subprocess.run([*build, "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return STAND_IN
