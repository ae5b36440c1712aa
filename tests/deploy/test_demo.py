"""The demonstration of what cannot be shown; tests/bench/start.py runs the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "serving", "told"),
    [
        ("none", "", "models/none holds no version; make one with `python -m export --name none`"),
        ("price", "", "models/price/2 does not take digits, which the demonstration needs"),
        ("bare", "", "models/bare/2 does not take digits, which the demonstration needs"),
        ("price", "docker", "price is not configured; add it with `python -m deploy models"),
    ],
)
def test_what_is_missing_is_one_sentence(
    name: str, serving: str, told: str, tmp_path: Path
) -> None:
    extra = tmp_path / "models" / "price" / "2" / "assets.extra"
    extra.mkdir(parents=True)
    (tmp_path / "models" / "bare" / "2").mkdir(parents=True)
    np.savez(extra / "golden.npz", rooms=[3])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SERVING": serving}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo", name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"demo: {told}")
