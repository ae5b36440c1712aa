"""Several devices, played by one processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.digits.training import devices
from tests.forks import Fork

ON_TWO = "tests.export.digits.training.export_on_two_devices"


def _card(module: str, *arguments: str, folder: Path) -> dict[str, Any]:
    output = folder / "output"
    folder.mkdir()
    given = [*arguments, "--seed=3", "--json", "--min-accuracy=0", f"--repository={folder}"]
    status = Fork(module, given, output).wait()
    assert status == 0, output.read_text()
    card: dict[str, Any] = json.loads(output.read_text().splitlines()[-1])
    return card


@pytest.mark.parametrize(("recipe", "epochs"), [("fast", 10), ("reference", 6)])
def test_all_devices_train_together_and_learn_the_same(
    tmp_path: Path, small_npz: Path, recipe: str, epochs: int
) -> None:
    arguments = [f"--recipe={recipe}", f"--epochs={epochs}", f"--data={small_npz}"]
    arguments.append("--batch-size=64")  # few images; this makes steps enough to learn them
    one = _card("export", *arguments, folder=tmp_path / "one")
    two = _card(ON_TWO, *arguments, folder=tmp_path / "two")
    assert (one["training"]["devices"], two["training"]["devices"]) == ("CPU", "2 × CPU")
    # The same batches, halved: only the order in which sums are added up differs.
    losses = [card["training"]["epochs"][0]["loss"] for card in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    last = [card["training"]["epochs"][-1]["validation_accuracy"] for card in (one, two)]
    assert last[1] == pytest.approx(last[0], abs=0.03)


def test_a_single_device_needs_no_strategy() -> None:
    assert devices.strategy("CPU").num_replicas_in_sync == 1
