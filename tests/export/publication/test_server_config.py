from __future__ import annotations

from pathlib import Path

import pytest

from export.errors import InputError
from export.publication import server_config
from export.publication.server_config import named_versions

CONFIG = """
model_config_list {
  config {
    name: "mnist"  base_path: "/models/mnist"  model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 5 } }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary" value: 6 }
  }
  config {
    name: "old"  base_path: "/elsewhere/mnist/"  model_platform: "tensorflow"
    version_labels { key: "stable" value: 1 }
  }
  config {
    name: "another"  base_path: "/models/another"  model_platform: "tensorflow"
    model_version_policy { specific { versions: 9 } }
  }
}
"""


# The bundle's own, this machine's, which `models add` writes, and the copy that servers have.
PLACES = ("server", "machine/server", "machine/config")


def test_versions_are_named_by_number_and_by_label(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(CONFIG)
    assert named_versions(tmp_path, "mnist") == {1, 3, 5, 6}
    assert named_versions(tmp_path, "another") == {9}
    assert named_versions(tmp_path, "none") == set()


def test_without_a_configuration_none_is_named(tmp_path: Path) -> None:
    assert named_versions(tmp_path, "mnist") == set()


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle's files, of another checkout."""
    folder = tmp_path / "deploy"
    for part in PLACES:
        (folder / part).mkdir(parents=True)
    (folder / "server" / "models.config").write_text("model_config_list {}")
    monkeypatch.setattr(server_config, "_DEPLOY", folder)
    return folder


@pytest.mark.parametrize("where", PLACES)
def test_what_the_bundles_server_reads_and_is_about_to_read_counts(
    tmp_path: Path, deploy: Path, where: str
) -> None:
    (deploy / where / "models.config").write_text(CONFIG)
    assert named_versions(tmp_path, "mnist") == {1, 3, 5, 6}


@pytest.mark.parametrize("where", PLACES)
def test_while_one_file_is_damaged_nothing_is_known(
    tmp_path: Path, deploy: Path, where: str
) -> None:
    (tmp_path / "models.config").write_text(CONFIG)
    (deploy / where / "models.config").write_text("model_config_list {")
    with pytest.raises(InputError, match=r"models\.config is not a ModelServerConfig"):
        named_versions(tmp_path, "mnist")


def test_without_the_file_of_the_bundles_server_nothing_is_known(
    tmp_path: Path, deploy: Path
) -> None:
    (deploy / "server" / "models.config").unlink()
    with pytest.raises(FileNotFoundError):
        named_versions(tmp_path, "mnist")


@pytest.mark.parametrize("content", [b"model_config_list {", b"nonsense: 1", b"\xff\xfe"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models.config").write_bytes(content)
    with pytest.raises(InputError, match=r"models\.config is not a ModelServerConfig"):
        named_versions(tmp_path, "mnist")
