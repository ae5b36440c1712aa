"""What each script of findings/ promises; CI does not run them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
_HEADER = 10  # lines at most
_TEXTS = ["Versions", "Expected", "Seen", "Matters"]


def test_only_scripts_lie_there() -> None:
    assert all(path.suffix == ".sh" for path in FOLDER.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
class TestFinding:
    def test_it_says_what_surprises_and_where(self, script: Path) -> None:
        first, *lines = script.read_text().splitlines()
        header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
        assert first == "#!/usr/bin/env bash"
        assert len(header) <= _HEADER
        assert re.findall(r"^# (\w+): ", "\n".join(header), re.MULTILINE) == _TEXTS

    def test_it_stands_alone_and_leaves_nothing(self, script: Path) -> None:
        assert os.access(script, os.X_OK)
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
        text = script.read_text()
        assert "\nset -euo pipefail\n" in text
        assert "mktemp -d" in text
        assert re.search(r"trap '.*rm -rf \"\$work\"' EXIT", text)

    def test_it_fails_when_the_behaviour_changes(self, script: Path) -> None:
        assert re.search(r"(SystemExit\(|echo )\"Changed: ", script.read_text())

    def test_what_it_installs_is_pinned_and_no_index_named(self, script: Path) -> None:
        text = script.read_text()
        from_pip = re.findall(r"/pip\" install (.*)", text)
        from_debian = re.findall(r"apt-get download -qq (.*?) &&", text)
        assert from_pip or from_debian
        assert "command -v" not in text  # whatever version happens to be there
        for line in from_pip:
            packages = [word for word in line.split() if not word.startswith("--")]
            assert packages
            assert all(re.fullmatch(r"[a-z0-9_-]+==[0-9.]+", each) for each in packages)
        for package in from_debian:
            assert re.fullmatch(r"[a-z0-9-]+=[0-9][0-9a-z.+~-]*", package)
        assert not re.search(r"index-url|find-links|https://", text)
