"""`python -m deploy compare`, on temporary servers of whichever kind the environment names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.commands import main
from deploy.operate.stack import served
from export.__main__ import main as export
from tests.conftest import Version


@pytest.fixture(scope="module")
def models(published: Version, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2 is version 1 again; 3 was trained for one epoch on few digits."""
    folder = tmp_path_factory.mktemp("compared")
    for number in ("1", "2"):
        shutil.copytree(published.path, folder / "mnist" / number)
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images = golden["images"]
    np.savez(folder / "requests.npz", images=images)
    np.savez(folder / "more.npz", images=images, labels=np.arange(3))
    data = folder / "data.npz"
    chance = np.random.default_rng(1)
    digits: dict[str, Any] = {
        f"{kind}_{part}": values
        for part in ("train", "test")
        for kind, values in (
            ("x", np.concatenate([images] * 2)),
            ("y", chance.permutation(np.arange(2 * len(images)) % 10).astype(np.uint8)),
        )
    }
    np.savez(data, **digits)
    arguments = [f"--repository={folder}", f"--data={data}", "--epochs=1", "--recipe=reference"]
    assert export([*arguments, "--min-accuracy=0", "--max-regression=1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def of_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", str(models))


def test_the_same_version_does_as_itself(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "2", "--requests", str(models / "requests.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["alike"], found["versions"], found["shown"]) == (True, [2, 1], [])
    digits, scores = found["outputs"]["digits"], found["outputs"]["probabilities"]
    assert digits == {"rows": 100, "differing": 0, "largest": None, "confidence": None}
    assert (scores["differing"], scores["largest"]) == (0, 0)
    assert scores["confidence"][0] == scores["confidence"][1] > 0.9
    assert all(0 < p50 <= p99 for p50, p99 in found["milliseconds"])


def test_another_model_is_told_with_figures_pictures_and_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", "3", "1"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^output   digits: [1-9]\d* of 100 rows differ$", out, re.M)
    assert re.search(r"^time     version 3: p50 [\d.]+, p99 [\d.]+ ms a request$", out, re.M)
    assert "⣿" in out or "⠿" in out or "⣤" in out  # pictures of digits
    assert "ROW  VERSION 3" in out
    assert out.splitlines()[-1] == "verdict  3 does not behave like 1"
    assert "version 3 does not behave like 1: output " in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["2", "9"], "mnist has no version 9; there are 1, 2, 3"),
        (["1"], "mnist has no version to compare 1 with; name a second version: N M"),
        (["2", "--requests", "none.npz"], "expected an .npz of arrays by input name"),
        (["2", "--requests", "more.npz"], "expected arrays of as many rows each"),
        (["2", "--signature", "none"], "name a file with --requests"),
    ],
)
def test_what_cannot_be_compared(
    arguments: list[str],
    told: str,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(models)
    assert main(["compare", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "compare 2", "compare 2 --live", "tune", "capacity"])
def test_of_several_models_one_has_to_be_named(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(served, "OWN", tmp_path)
    both = "".join(
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }} '
        for name in ("mnist", "price")
    )
    (tmp_path / "models.config").write_text(f"model_config_list {{ {both} }}")
    assert main(command.split()) == 2
    assert "there are 2 models: mnist, price; choose one with --name" in capsys.readouterr().err


def test_without_a_server_there_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SERVING_IMAGE", raising=False)
    monkeypatch.setenv("SERVING_BINARY", "/none/tensorflow_model_server")
    assert main(["compare", "2"]) == 2
    assert "/none/tensorflow_model_server cannot be started" in capsys.readouterr().err
