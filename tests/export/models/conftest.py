from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from export.__main__ import main


class Outcome(NamedTuple):
    """An exit status and the last line of what was said."""

    status: int
    last: str


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`python -m export` with the repository `tmp_path / "models"`."""

    def run(*arguments: object) -> Outcome:
        status = main([f"--repository={tmp_path / 'models'}", *map(str, arguments)])
        return Outcome(status, capsys.readouterr().err.splitlines()[-1])

    return run
