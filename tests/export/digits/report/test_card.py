from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from tests.conftest import Version

SCHEMA = json.loads(
    resources.files("export.digits.report").joinpath("model_card.schema.json").read_text()
)


@pytest.fixture
def card(published: Version) -> Any:
    return json.loads((published.path / "assets.extra" / "model_card.json").read_text())


def _validate(card: Any) -> None:
    validator = jsonschema.Draft202012Validator
    validator(SCHEMA, format_checker=validator.FORMAT_CHECKER).validate(card)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_card_is_as_the_schema_says(card: Any) -> None:
    _validate(card)
    assert sum(row["images"] for row in card["calibration"]["reliability"]) == card["data"]["test"]
    assert all(mistake["digit"] != mistake["answer"] for mistake in card["mistakes"])
    assert set(card["parity"]) == set(card["signatures"])


@pytest.mark.parametrize(
    "path",
    [("data", "sha256"), ("training", "devices"), ("metrics", "test_accuracy"), ("confusion",),
     ("per_class", 3, "recall"), ("parity", "encoded"), ("git_commit",),
     ("signatures", "classify", "method")],
)  # fmt: skip
def test_the_schema_sees_what_is_missing_or_wrong(card: Any, path: tuple[str | int, ...]) -> None:
    *parents, last = path
    for value in (2, "wrong"):
        damaged = copy.deepcopy(card)
        parent = damaged
        for key in parents:
            parent = parent[key]
        parent[last] = value
        with pytest.raises(jsonschema.ValidationError):
            _validate(damaged)
    del parent[last]
    if path[0] != "parity":  # its keys are the signatures', whatever they are called
        with pytest.raises(jsonschema.ValidationError):
            _validate(damaged)
