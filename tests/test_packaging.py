"""What the project promises of its own files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import tfserving_client

ROOT = Path(__file__).parents[1]
BUNDLE = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
SETS: dict[str, list[Any]] = BUNDLE["dependency-groups"]
LOCKS = {path.stem: path.read_text() for path in sorted((ROOT / "locks").glob("*.txt"))}
ALONE = {name: LOCKS.pop(name) for name in ("uv", "kubectl")}  # of one package each
_PIN = re.compile(r"^([a-z0-9-]+)(\[[a-z,]+\])?==[^ ]+", re.MULTILINE)


def _names(requirements: list[Any]) -> set[str]:
    """Of what a set asks for, with the sets that it includes."""
    names: set[str] = set()
    for each in requirements:
        if isinstance(each, dict):
            names |= _names(SETS[each["include-group"]])
        else:
            names.add(re.split(r"[\[=<>]", each)[0])
    return names


def test_the_client_needs_four_small_packages() -> None:
    assert _names(CLIENT["dependencies"]) == {"grpcio", "h11", "numpy", "protobuf"}


def test_there_is_a_lock_for_each_set() -> None:
    assert LOCKS.keys() == {"client", *SETS} - {"build"}


@pytest.mark.parametrize("lock", ALONE)
def test_what_installs_and_what_renders_is_locked_itself(lock: str) -> None:
    ((name, _),) = _PIN.findall(ALONE[lock])
    assert lock in name
    assert "--hash=sha256:" in ALONE[lock]
    assert "://" not in ALONE[lock]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_its_set_with_hashes_and_names_no_index(lock: str) -> None:
    text = LOCKS[lock]
    pins = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text
    assert "--find-links" not in text
    assert "index" not in text
    asked = _names(CLIENT["dependencies"]) | _names(SETS.get(lock, []))
    assert asked <= {name for name, _ in _PIN.findall(text)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_set_has_what_the_tests_ran_with(lock: str) -> None:
    def pins(text: str) -> set[str]:
        return {pin[0] for pin in _PIN.finditer(text)}

    assert pins(LOCKS[lock]) <= pins(LOCKS["dev"])


@pytest.mark.parametrize("lock", ["client", "exporter", "operate"])
def test_tensorflow_is_only_where_a_model_is_trained_or_run(lock: str) -> None:
    assert not [name for name, _ in _PIN.findall(LOCKS[lock]) if "tensorflow" in name]


def test_the_checkout_itself_installs_no_package(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target=wheel",
        f"--directory={tmp_path}",
    ]
    subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {
            f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
        }


def test_bundle_and_client_have_one_version() -> None:
    assert BUNDLE["project"]["version"] == tfserving_client.__version__
    assert CLIENT["dynamic"] == ["version"]  # from the package, whose __version__ it is


def test_the_changelog_has_the_version_newest_with_its_day() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    versions = [re.fullmatch(r"(\d+\.\d+\.\d+) – (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    assert all(versions), titles
    numbers = [tuple(map(int, match[1].split("."))) for match in versions if match]
    days = [date.fromisoformat(match[2]) for match in versions if match]
    assert ".".join(map(str, numbers[0])) == BUNDLE["project"]["version"]
    assert numbers == sorted(set(numbers), reverse=True)
    assert days == sorted(days, reverse=True)


def test_one_tensorflow_minor_everywhere() -> None:
    image = re.search(r"^TFS_VERSION=(\d+\.\d+)\.", (ROOT / ".env").read_text(), re.MULTILINE)
    assert image
    minor = image[1]
    for name in ("export", "local"):
        assert f"tensorflow=={minor}.*" in SETS[name]
        assert f"tensorflow-serving-api=={minor}.*" in SETS[name]
        assert re.search(rf"^tensorflow=={re.escape(minor)}\.", LOCKS[name], re.MULTILINE)


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.b]*/**/*.md")])  # not in .venv and build


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)(#[^)]*)?\)", page.read_text())
    for path, anchor in links:
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if target.is_dir():
            target /= "README.md"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor[1:] in anchors, anchor
