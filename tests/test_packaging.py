"""What the project promises of its own files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
EXPORTER_LOCK = (ROOT / "deploy" / "exporter" / "requirements.lock").read_text()


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[=<>]", requirement)[0] for requirement in requirements}


def test_the_bare_install_is_four_small_packages() -> None:
    assert _names(PROJECT["dependencies"]) == {"grpcio", "h11", "numpy", "protobuf"}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [(LOCK, set(PROJECT["optional-dependencies"])), (EXPORTER_LOCK, {"exporter"})],
    ids=["all", "exporter"],
)
def test_everything_is_locked_with_hashes_and_no_index_is_named(
    lock: str, extras: set[str]
) -> None:
    pins = re.split(r"\n(?=\S)", lock.strip())
    pinned = {re.split(r"[=@ ;]", pin)[0] for pin in pins}
    assert all("--hash=sha256:" in pin for pin in pins)
    asked = _names(PROJECT["dependencies"])
    for extra in extras:
        asked |= _names(PROJECT["optional-dependencies"][extra])
    assert asked - {"digits-serving"} <= pinned
    assert "://" not in lock
    assert "--find-links" not in lock
    assert "index" not in lock


def test_the_exporters_image_has_what_the_tests_ran_with() -> None:
    pins = re.compile(r"^[a-z0-9-]+==[^ ]+", re.MULTILINE)
    assert set(pins.findall(EXPORTER_LOCK)) <= set(pins.findall(LOCK))


def test_one_tensorflow_minor_everywhere() -> None:
    image = re.search(r"^TFS_VERSION=(\d+\.\d+)\.", (ROOT / ".env").read_text(), re.MULTILINE)
    assert image
    minor = image[1]
    for extra in ("export", "deploy"):
        asked = PROJECT["optional-dependencies"][extra]
        assert f"tensorflow=={minor}.*" in asked
        assert f"tensorflow-serving-api=={minor}.*" in asked
    assert re.search(rf"^tensorflow=={re.escape(minor)}\.", LOCK, re.MULTILINE)


@pytest.mark.parametrize("readme", [ROOT / "README.md", *sorted(ROOT.glob("[!.]*/**/README.md"))])
def test_what_a_readme_links_to_is_there(readme: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)(#[^)]*)?\)", readme.read_text())
    for path, anchor in links:
        target = (readme.parent / path) if path else readme
        assert target.exists(), path
        if target.is_dir():
            target /= "README.md"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor[1:] in anchors, anchor
