"""`python -m export.verify` as it is typed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from export.publication.repository import Repository
from export.verify import main
from tests.conftest import Version


@pytest.fixture
def version(published: Version, tmp_path: Path) -> Path:
    """A published version that may be tampered with."""
    repository = published.path.parents[1]
    shutil.copytree(repository, tmp_path / "models")
    return tmp_path / "models" / published.path.relative_to(repository)


def _verify(version: Path, *more: str) -> int:
    return main([f"--repository={version.parents[1]}", *more])


def test_what_was_published_is_whole(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify(version) == 0
    assert _verify(version, version.name) == 0
    assert capsys.readouterr().out == 2 * f"version {version.name}: whole\n"


def test_tampering_with_any_file_is_found(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path for path in version.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content, name = path.read_bytes(), path.relative_to(version)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
        assert _verify(version) == 1
        assert capsys.readouterr().out == f"version {version.name}: {name} was changed\n"
        path.unlink()
        assert _verify(version) == 1
        assert capsys.readouterr().out == f"version {version.name}: {name} is missing\n"
        path.write_bytes(content)
    assert _verify(version) == 0


def test_an_added_file_is_found(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (version / "assets.extra" / "batching_params.pbtxt").write_text("")
    assert _verify(version) == 1
    assert "assets.extra/batching_params.pbtxt was added" in capsys.readouterr().out


def test_a_file_changed_together_with_the_list_is_found(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, sums = version / "saved_model.pb", version / "assets.extra" / "SHA256SUMS"
    graph.write_bytes(b"another")
    listed = subprocess.run(
        ["sha256sum", "saved_model.pb"], cwd=version, capture_output=True, text=True, check=True
    ).stdout
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text(
        "".join(listed if line.endswith("saved_model.pb\n") else line for line in lines)
    )
    assert _verify(version) == 1
    assert "assets.extra/SHA256SUMS was changed" in capsys.readouterr().out


def test_a_version_that_was_not_published_here_is_found(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(version, version.with_name("77"))
    assert _verify(version) == 1
    assert "version 77: " in capsys.readouterr().out
    assert _verify(version, version.name) == 0


def test_the_list_is_in_the_format_of_sha256sum(version: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "assets.extra/SHA256SUMS"]
    subprocess.run(command, cwd=version, check=True)
    (version / "saved_model.pb").write_bytes(b"another")
    assert subprocess.run(command, cwd=version, capture_output=True, check=False).returncode == 1


def test_what_cannot_be_verified_is_one_sentence(
    tmp_path: Path, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--repository={tmp_path / 'none'}"]) == 2
    assert _verify(version, "99") == 2
    Repository(version.parents[1], "mnist").ledger.write_text("3\n")
    assert _verify(version) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 1)[0] for line in lines] == 3 * ["python -m export.verify"]
    assert "has no version 99" in lines[1]
    assert "'3'; expected a version and a SHA-256" in lines[2]
