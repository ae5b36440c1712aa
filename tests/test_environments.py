"""Each command in an environment that lacks what it needs."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with nothing in it."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    return home / "bin" / "python"


@pytest.mark.parametrize(
    ("command", "made_by", "status"),
    [
        ("deploy up", "make setup-operate", 2),
        ("deploy down", "make setup-operate", 2),
        ("deploy status --json", "make setup-operate", 2),
        ("deploy certificates", "make setup-operate", 2),
        ("deploy models add price", "make setup-operate", 2),
        ("export --json", "make setup", 2),
        ("deploy.local --version", "make setup-local", 255),
        ("deploy.local --model_name=mnist --model_base_path=/none", "make setup-local", 255),
        ("deploy.demo", "make setup", 1),
    ],
)
def test_the_missing_package_and_the_command_that_brings_it_are_one_sentence(
    bare: Path, command: str, made_by: str, status: int, tmp_path: Path
) -> None:
    environment = {"PATH": "/usr/bin:/bin", "DEPLOY_SECRETS": str(tmp_path)}
    done = subprocess.run(
        [bare, "-m", *command.split()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == status
    assert " is not installed in " in line
    assert f"`{made_by}` makes an environment with it in .venv" in line


@pytest.mark.parametrize("command", ["deploy --help", "deploy keys list", "export --help"])
def test_what_needs_no_package_works_without(bare: Path, command: str, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "DEPLOY_SECRETS": str(tmp_path)}
    done = subprocess.run(
        [bare, "-m", *command.split()], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
