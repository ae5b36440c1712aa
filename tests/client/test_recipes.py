"""The README's recipes, as they stand there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.client.conftest import ScriptedGrpc, ScriptedHttp, grpc_prediction

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n and the rest"


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with each recipe in the file that its first line names."""
    text = (ROOT / "client/README.md").read_text()
    for name, code in re.findall(r"^```python\n# (\w+\.py): (.*?)^```$", text, re.M | re.S):
        (tmp_path / name).write_text(f"# {code}")
    return tmp_path


@pytest.fixture
def seven(grpc_server: ScriptedGrpc, monkeypatch: pytest.MonkeyPatch) -> ScriptedGrpc:
    """A server to which every picture shows a seven."""
    grpc_server.say(grpc_prediction(b"\7"))
    monkeypatch.setenv("DIGITS_URL", grpc_server.url)
    return grpc_server


def _python(*command: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        check=False,
        env=dict(os.environ),
        **options,
    )
    return done


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("seven")
def test_the_service(recipes: Path) -> None:
    with TestClient(_load(recipes / "service.py").app) as caller:
        answered = caller.post("/digit", content=PNG)
        assert (answered.status_code, answered.text) == (200, '{"digit":7,"probability":1.0}')
        refused = caller.post("/digit", content=b"GIF89a")
        assert refused.status_code == 422
        assert "no PNG or JPEG" in refused.json()["detail"]


def test_the_service_says_when_the_server_is_away(
    recipes: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("DIGITS_URL", f"grpc://127.0.0.1:{closed_port}")
    with TestClient(_load(recipes / "service.py").app) as caller:
        assert caller.post("/digit", content=PNG).status_code == 503


def test_the_batch_job(seven: ScriptedGrpc, recipes: Path) -> None:
    folder = recipes / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.png").write_bytes(b"broken")
    done = _python(str(recipes / "batch.py"), str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split() == [f"{folder}/a.png,7,1.0000"]
    assert b"b.png' is no PNG or JPEG" in done.stderr
    assert len(seven.calls) == 1


@pytest.mark.usefixtures("seven")
def test_the_pipeline(recipes: Path) -> None:
    image = np.zeros(784, np.uint8).tobytes()
    done = _python(str(recipes / "pipeline.py"), input=image)
    assert (done.returncode, done.stdout) == (0, b"7\n"), done.stderr


def test_greenlets_wait_side_by_side(
    recipes: Path, http_server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=60)  # no answer before both have asked
    row = [0.0] * 7 + [1.0] + [0.0] * 2
    answer = json.dumps({"outputs": {"probabilities": [row], "digits": [7]}}).encode()

    def look(_: str, __: bytes) -> tuple[int, bytes]:
        together.wait()
        return 200, answer

    http_server.behaviour = look
    monkeypatch.setenv("DIGITS_URL", http_server.url)
    for name in ("a.png", "b.png"):
        (recipes / name).write_bytes(PNG)
    # gevent's own warnings are not the recipe's.
    done = subprocess.run(
        [sys.executable, "greenlets.py", "a.png", "b.png"],
        cwd=recipes, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "a.png 7\nb.png 7\n"), done.stderr


@pytest.mark.usefixtures("seven")
def test_the_unit_tests(recipes: Path) -> None:
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_postcode.py", "test_offer.py")
    done = _python(*command, cwd=recipes)
    assert done.returncode == 0, done.stdout
    assert b"3 passed" in done.stdout
