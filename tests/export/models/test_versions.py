"""A model that was brought, over several versions; one with made inputs; a SavedModel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.models import zoo
from tests.export.models.conftest import Outcome
from tests.export.models.test_kinds import replayed

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Export = Callable[..., Outcome]


def _card(version: Path) -> Any:
    return json.loads((version / "assets.extra" / "model_card.json").read_text())


def _line(path: Path, slope: float) -> str:
    """A model of y = slope · x."""
    model = keras.Sequential([keras.Input((1,), name="x"), keras.layers.Dense(1, name="line")])
    model.layers[-1].set_weights([np.array([[slope]]), np.zeros(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0)  # so that Adam has a state
    model.layers[-1].set_weights([np.array([[slope]]), np.zeros(1)])
    model.save(path)
    return f"--model={path}"


def test_a_worse_version_is_refused_by_its_metric(tmp_path: Path, export: Export) -> None:
    x = np.linspace(0, 1, 50)
    np.savez(tmp_path / "rows.npz", x=x, y=2.0 * x)
    more = ["--name=line", f"--samples={tmp_path / 'rows.npz'}"]
    assert export(_line(tmp_path / "a.keras", 2.1), *more) == (0, "publish version 1")
    outcome = export(_line(tmp_path / "b.keras", 2.5), *more)
    assert outcome.status == 1
    assert "mae is 0.25, and version 1 reaches 0.05 on the same samples" in outcome.last
    assert export(_line(tmp_path / "c.keras", 2.5), *more, "--max-regression=0.3").status == 0
    assert export(_line(tmp_path / "d.keras", 2.0), *more).last == "publish version 3"
    versions = tmp_path / "models" / "line"
    assert _card(versions / "2")["compared_with"]["version"] == 1
    assert _card(versions / "3")["metrics"]["mae"] == pytest.approx(0.0, abs=1e-6)
    assert _card(versions / "3")["compared"] == ["mae"]
    # The weights are constants, and Adam's state is nowhere.
    assert _card(versions / "3")["network"]["weights"] == "constants"
    assert sum(path.stat().st_size for path in (versions / "3" / "variables").iterdir()) < 1000
    assert (versions / "3" / "assets.extra" / "predicted.svg").exists()


def test_large_weights_stay_variables_and_nothing_else_does(tmp_path: Path, export: Export) -> None:
    model = keras.Sequential([keras.Input((1100,), name="x"), keras.layers.Dense(1000, name="z")])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "large.keras")
    assert export(f"--model={tmp_path / 'large.keras'}", "--name=large").status == 0
    version = tmp_path / "models" / "large" / "1"
    card = _card(version)
    assert card["network"]["weights"] == "variables"
    assert "made to fit" in card["samples"]["note"]
    assert card["metrics"] == {}
    names = [name for name, _ in tf.train.list_variables(str(version / "variables" / "variables"))]
    assert not [name for name in names if "optimizer" in name.lower()]
    assert replayed(version, "large")["serving_default"]["z"].shape == (64, 1000)


def test_without_samples_inputs_are_made_where_any_will_do(tmp_path: Path, export: Export) -> None:
    zoo.embedding().model.save(tmp_path / "city.keras")
    assert export(f"--check={tmp_path / 'city.keras'}").last.endswith("nothing was published")
    assert not (tmp_path / "models").exists()
    city = keras.Input((1,), name="city", dtype="string")
    known = keras.layers.StringLookup(vocabulary=["Graz", "Linz"], num_oov_indices=0)(city)
    keras.Model(city, known).save(tmp_path / "strict.keras")
    outcome = export(f"--check={tmp_path / 'strict.keras'}")
    assert outcome.status == 2
    assert "signature serving_default: " in outcome.last
    assert outcome.last.endswith("; --samples gives rows that it takes")


class Foreign(tf.Module):  # type: ignore[misc]
    """As somebody else would write one: variables, a table, several signatures."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)
        words = tf.lookup.KeyValueTensorInitializer(["low", "high"], [0.0, 1.0])
        self.table = tf.lookup.StaticHashTable(words, -1.0)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="size"),
            tf.TensorSpec([None], tf.string, name="level"),
        ]
    )
    def price(self, size: tf.Tensor, level: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"price": self.slope * size + self.table.lookup(level)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])  # type: ignore[untyped-decorator]
    def of_examples(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(inputs, {"size": tf.io.FixedLenFeature([], tf.float32)})
        return {"outputs": self.slope * parsed["size"]}


def test_a_saved_model_is_published_as_it_is(tmp_path: Path, export: Export) -> None:
    def saved(slope: float) -> str:
        module, folder = Foreign(slope), tmp_path / f"foreign-{slope}"
        signatures = {"serving_default": module.price, "examples": module.of_examples}
        tf.saved_model.save(module, str(folder), signatures)
        return f"--model={folder}"

    size, level = np.linspace(0, 1, 30), np.array(["low", "high", "none"] * 10)
    truth = 3.0 * size + np.array([0.0, 1.0, -1.0] * 10)
    np.savez(tmp_path / "rows.npz", size=size, level=level, y=truth)
    more = ["--name=foreign", f"--samples={tmp_path / 'rows.npz'}"]
    assert export(saved(3.1), *more, "--max=mae=0.1").status == 0
    version = tmp_path / "models" / "foreign" / "1"
    card = _card(version)
    assert card["signatures"].keys() == {"serving_default", "examples"}
    assert card["parity"].keys() == {"serving_default"}
    assert "examples is not tried: Could not parse example input" in card["samples"]["note"]
    assert card["metrics"]["mae"] == pytest.approx(0.05, abs=1e-4)
    answers = replayed(version, "foreign")["serving_default"]["price"]
    np.testing.assert_allclose(answers, truth + 0.1 * size, atol=1e-5)
    outcome = export(saved(4.0), *more)
    assert outcome.status == 1
    assert "mae is 0.5, and version 1 reaches 0.05" in outcome.last
    # What was published can be brought again, and takes nothing stale along.
    assert export(f"--model={version}", "--name=again").status == 0
    assert _card(tmp_path / "models" / "again" / "1")["model"] == "again"
