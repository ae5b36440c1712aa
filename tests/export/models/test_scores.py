from __future__ import annotations

import math

import numpy as np
import pytest

from export.errors import InputError, Refused
from export.models.scores import Limits, check, classes_of, compared, higher_is_better, measured

NONE = Limits({}, {}, 0.005)


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("accuracy", True),
        ("sparse_categorical_accuracy", True),
        ("kind_acc", True),
        ("auc_3", True),
        ("score_mae", False),
        ("error_auc", True),
        ("root_mean_squared_error", False),
        ("loss", False),
        ("kl_divergence", False),
        ("bumpy", None),
    ],
)
def test_the_name_tells_which_way_is_better(name: str, higher: bool | None) -> None:
    assert higher_is_better(name, NONE) is higher


def test_a_limit_tells_it_of_a_metric_of_ones_own() -> None:
    assert higher_is_better("bumpy", Limits({"bumpy": 1}, {}, 0)) is True
    assert higher_is_better("bumpy", Limits({}, {"bumpy": 1}, 0)) is False
    assert higher_is_better("bumpy", Limits({"bumpy": 1}, {"bumpy": 2}, 0)) is None


def test_a_loss_is_compared_only_where_there_is_nothing_else() -> None:
    assert compared(["loss", "a_loss", "mae", "bumpy"], NONE) == ["mae"]
    assert compared(["loss", "bumpy"], NONE) == ["loss"]


def test_limits_hold() -> None:
    limits = Limits({"accuracy": 0.9}, {"mae": 3.0}, 0.005)
    check({"accuracy": 0.9, "mae": 3.0}, None, limits)
    with pytest.raises(Refused, match=r"accuracy is 0\.89; --min asks for at least 0\.9"):
        check({"accuracy": 0.89, "mae": 1.0}, None, limits)
    with pytest.raises(Refused, match=r"mae is 3\.1; --max asks for at most 3"):
        check({"accuracy": 1.0, "mae": 3.1}, None, limits)
    with pytest.raises(Refused):
        check({"accuracy": math.nan, "mae": 1.0}, None, limits)


@pytest.mark.parametrize(
    ("name", "before", "now", "passes"),
    [
        ("accuracy", 0.95, 0.946, True),
        ("accuracy", 0.95, 0.944, False),
        ("accuracy", 0.95, 0.99, True),
        ("mae", 0.02, 0.0249, True),
        ("mae", 0.02, 0.0251, False),
        ("mae", 20_000.0, 20_099.0, True),  # a share, where the figure is above 1
        ("mae", 20_000.0, 20_101.0, False),
        ("mae", 20_000.0, math.nan, False),
        ("bumpy", 1.0, 9.0, True),
    ],
)
def test_no_step_back(name: str, before: float, now: float, passes: bool) -> None:
    if passes:
        check({name: now}, (3, {name: before}), NONE)
    else:
        with pytest.raises(Refused, match=rf"{name} is .*, and version 3 reaches"):
            check({name: now}, (3, {name: before}), NONE)


def test_metrics_that_fit_the_truth() -> None:
    scores = np.eye(3, dtype=np.float32)
    assert measured([], {"o": np.array([0, 1, 1])}, {"o": scores}) == {
        "accuracy": pytest.approx(2 / 3)
    }
    numbers = measured([], {"o": np.array([1.0, 2.0])}, {"o": np.array([[1.0], [4.0]])})
    assert numbers == {"mae": pytest.approx(1.0), "mse": pytest.approx(2.0)}
    several = measured(
        [],
        {"a": np.array([0, 2, 2]), "b": np.array([3.0, 3.0, 3.0])},
        {"a": scores, "b": np.zeros((3, 1))},
    )
    assert several["a_accuracy"] == pytest.approx(2 / 3)
    assert several["b_mae"] == pytest.approx(3.0)
    with pytest.raises(InputError, match=r"metrics cannot be measured on the samples: .*nonsense"):
        measured(["nonsense"], {"o": np.array([0, 1, 1])}, {"o": scores})


def test_classes_of_probabilities_and_logits() -> None:
    assert classes_of(np.array([[0.2, 0.8], [0.9, 0.1]])).tolist() == [1, 0]
    assert classes_of(np.array([[0.4], [0.6]])).tolist() == [0, 1]
    assert classes_of(np.array([[-3.0], [0.2]])).tolist() == [0, 1]
