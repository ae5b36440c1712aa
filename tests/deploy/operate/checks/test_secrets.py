from __future__ import annotations

from pathlib import Path

import pytest

from deploy.operate.access import certificates, keys, secret_files
from deploy.operate.checks import secrets


@pytest.fixture(autouse=True)
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key, and a certificate, as they are made."""
    monkeypatch.setenv("DEPLOY_SECRETS", str(tmp_path))
    keys.create("alice")
    certificates.make()
    return secret_files.gateway()


def test_what_is_made_here_is_well() -> None:
    assert list(secrets.problems()) == []


def test_none_at_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_SECRETS", str(tmp_path / "none"))
    assert list(secrets.problems()) == []


@pytest.mark.parametrize("name", ["keys.conf", "server.pem", "server.key"])
def test_a_file_that_only_its_owner_reads(gateway: Path, name: str) -> None:
    (gateway / name).chmod(0o600)
    (told,) = secrets.problems()
    assert told.endswith(f"run `chmod o+r {gateway / name}`")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("keys.conf", "keys.conf:1 is no line of `python -m deploy keys`"),
        ("server.pem", "server.pem is not a certificate"),
        ("server.key", "server.key is not a private key"),
    ],
)
def test_a_file_that_holds_something_else(gateway: Path, name: str, told: str) -> None:
    (gateway / name).write_text("nonsense\n")
    (problem,) = secrets.problems()
    assert told in problem


def test_the_key_of_another_certificate(gateway: Path) -> None:
    other = (gateway / "server.key").read_bytes()
    certificates.make()
    (gateway / "server.key").write_bytes(other)
    (problem,) = secrets.problems()
    assert f"server.key is not the key of {gateway / 'server.pem'}; " in problem
    (gateway / "server.key").unlink()
    (problem,) = secrets.problems()
    assert "is missing" in problem
