from __future__ import annotations

import keras
import numpy as np
import pytest

from export.digits.data.sources import Dataset, Split
from export.digits.training import network
from export.digits.training import recipes as training
from export.digits.training.recipes import EpochReport


def _trained(dataset: Dataset, recipe: training.Recipe) -> tuple[keras.Model, list[EpochReport]]:
    keras.utils.set_random_seed(recipe.seed)
    model = network.build()
    reports: list[EpochReport] = []
    training.train(model, dataset, recipe, reports.append)
    return model, reports


def test_what_is_not_changed_is_the_recipes_own() -> None:
    default = training.recipe("reference", 55_000)
    assert (default.epochs, default.batch_size) == (10, 32)
    assert training.recipe("reference", 55_000, epochs=3).batch_size == 32
    assert training.recipe("fast", 55_000, seed=0, batch_size=9).batch_size == 9


def test_few_images_are_seen_more_often() -> None:
    epochs = [training.recipe("fast", images).epochs for images in (55_000, 20_000, 1_000, 10**7)]
    assert epochs == [16, 44, 100, 1]
    best = [training.recipe("best", images).epochs for images in (55_000, 1_000)]
    assert best[0] > 100 < best[1]


@pytest.mark.parametrize(("name", "epochs"), [("reference", None), ("fast", None), ("best", 60)])
def test_every_recipe_learns_and_reports_every_epoch(
    digits: Dataset, name: str, epochs: int | None
) -> None:
    recipe = training.recipe(name, len(digits.train), epochs=epochs)
    model, reports = _trained(digits, recipe)
    assert [report.epoch for report in reports] == list(range(1, recipe.epochs + 1))
    assert reports[-1].loss < reports[0].loss / 2
    answers = model.predict(digits.test.images / 255.0, verbose=0).argmax(axis=1)
    assert np.mean(answers == digits.test.labels) > 0.8
    assert reports[-1].validation_accuracy > 0.8
    assert f"{recipe.epochs}/{recipe.epochs}  loss {reports[-1].loss:.4f}" in str(reports[-1])


@pytest.mark.parametrize("name", ["reference", "fast", "best"])
def test_a_seed_makes_a_run_repeatable_to_the_bit(digits: Dataset, name: str) -> None:
    runs = [
        _trained(digits, training.recipe(name, len(digits.train), epochs=2, seed=seed))
        for seed in (5, 5, 6)
    ]
    first, again, other = ([w.tobytes() for w in model.get_weights()] for model, _ in runs)
    assert first == again
    assert first != other


@pytest.mark.parametrize("batch_size", [1, 500, 100_000])
def test_batches_of_any_size(digits: Dataset, batch_size: int) -> None:
    part = Split(digits.train.images[:70], digits.train.labels[:70])
    few = Dataset("few", "", part, part, part)
    _, reports = _trained(few, training.recipe("fast", 70, epochs=1, batch_size=batch_size))
    assert np.isfinite(reports[-1].loss)
