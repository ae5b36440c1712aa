"""The walks of export/models/README.md, line by line, on a real engine; watched at their ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.monitoring.prometheus import expressions
from tests.deploy.operate.bundle import Bundle

_TEXT = (ROOT / "export" / "models" / "README.md").read_text()
START, *_WALKS = _TEXT.split("\n## ")
WALKS = {re.findall(r"--name (\w+)", walk)[0]: walk for walk in _WALKS}
# What the first request of each walk is answered with, nearly.
ANSWERS = {"shapes": None, "price": 450, "degrees": [32, 212]}

# What a dashboard has only of requests that went wrong, and of answers that are digits.
NOT_SHOWN = ('outcome="refused"', 'status!="OK"', "answers:")


@pytest.fixture(scope="module")
def clone(stand_in: str, nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """A checkout with this environment, where nothing was done before."""
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}
    bundle = Bundle(tmp_path_factory.mktemp("walks"), images, "digits-walks-test")
    shutil.copytree(ROOT / "export", bundle.root / "export")
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / file, bundle.root)
    (bundle.root / ".venv").symlink_to(Path(sys.prefix))
    for needed in ("locks/dev.txt", "client/pyproject.toml"):
        os.utime(bundle.root / needed, (0, 0))  # older than what is installed: it stays as it is
    yield bundle
    bundle.clear()


def _typed(clone: Bundle, walk: str) -> list[str]:
    """Write the programs of a walk, type its commands, and return what each block wrote."""
    written = []
    for language, status, block in re.findall(
        r"^```(python|sh)(?: exit=(\d))?\n(.*?)^```$", walk, re.M | re.S
    ):
        if language == "python":
            (clone.root / re.findall(r"# (\w+\.py)", block)[0]).write_text(block)
            continue
        done = clone.typed(block.replace(":8443", f":{clone.tls_port}"))
        assert done.returncode == int(status or 0), done.stderr
        assert "Traceback" not in done.stderr
        written.append(done.stdout)
    return written


@pytest.mark.parametrize("name", WALKS)
def test_a_walk(clone: Bundle, name: str, prometheus: str, tmp_path: Path) -> None:
    _typed(clone, START)
    answered, second, *refused = _typed(clone, WALKS[name])
    over_grpc, over_rest = re.findall(r"^\[.*?\]+$", answered, re.M | re.S)
    assert over_grpc == over_rest
    if (expected := ANSWERS[name]) is not None:
        numbers = np.array(re.findall(r"[-\d.]+", over_grpc), float)
        np.testing.assert_allclose(numbers, np.ravel(expected), atol=40)
    assert "/2\n" in second
    assert not any("models/" in output for output in refused)
    versions = sorted((clone.root / "models" / name).glob("[0-9]*"))
    assert [path.name for path in versions] == ["1", "2"]
    rows = json.loads(clone.typed(".venv/bin/python -m deploy models --json").stdout)["models"]
    assert {row["name"]: row["served"] for row in rows}[name] == [2]
    git = ["git", "-C", str(ROOT), "ls-files", "deploy", "export", ":!deploy/secrets"]
    for file in subprocess.run(git, capture_output=True, text=True, check=True).stdout.split():
        assert (clone.root / file).read_bytes() == (ROOT / file).read_bytes(), file

    create = f".venv/bin/python -m deploy keys create {name}-watched"
    (asks,) = re.findall(r"^for url.*?^done$", WALKS[name], re.M | re.S)
    asks = f"export DIGITS_API_KEY={clone.typed(create).stdout}{asks}".replace(
        ":8443", f":{clone.tls_port}"
    )
    shown = [
        expression
        for expression in expressions(model=name)
        if f'"{name}"' in expression and not any(words in expression for words in NOT_SHOWN)
    ]
    assert len(shown) > 10
    with clone.watched(prometheus, tmp_path, MODELS="", DEPLOY_SECRETS="") as watched:
        watched.has_data(shown, meanwhile=lambda: clone.typed(asks))
        (choices,) = (each for each in expressions() if each.startswith("count by (model)"))
        assert name in {labels["model"] for labels, _ in watched.query(choices)}
