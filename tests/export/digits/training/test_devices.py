"""Several devices, played by one processor: TensorFlow divides it into logical ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.digits.training import devices

PUBLISH_ON_TWO = """
import functools, sys
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
from export.digits.training import devices
devices.strategy = functools.partial(devices.strategy, "CPU")
from export.__main__ import main
sys.exit(main())
"""


def _card(*command: str) -> dict[str, Any]:
    arguments = ["--seed=3", "--json", "--min-accuracy=0"]
    done = subprocess.run(
        [sys.executable, *command, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    card: dict[str, Any] = json.loads(done.stdout)
    return card


@pytest.mark.parametrize(("recipe", "epochs"), [("fast", 30), ("reference", 3)])
def test_all_devices_train_together_and_learn_the_same(
    tmp_path: Path, small_npz: Path, recipe: str, epochs: int
) -> None:
    arguments = [f"--recipe={recipe}", f"--epochs={epochs}", f"--data={small_npz}"]
    one = _card("-m", "export", *arguments, f"--repository={tmp_path / 'one'}")
    two = _card("-c", PUBLISH_ON_TWO, *arguments, f"--repository={tmp_path / 'two'}")
    assert (one["training"]["devices"], two["training"]["devices"]) == ("CPU", "2 × CPU")
    # The same batches, halved: only the order in which sums are added up differs.
    losses = [card["training"]["epochs"][0]["loss"] for card in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    accuracies = [card["metrics"]["test_accuracy"] for card in (one, two)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.03)


def test_a_single_device_needs_no_strategy() -> None:
    assert devices.strategy("CPU").num_replicas_in_sync == 1
