"""What people have is published, and answers on a server as it did in Keras."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tensorflow as tf

from deploy.local.handlers import warmup
from deploy.local.models.servable import load
from tests.export.models import zoo
from tests.export.models.conftest import Outcome

# Keras 3.15 and NumPy 2.4, at each variable that is saved.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SCHEMA = json.loads(Path("export/models/model_card.schema.json").read_text())


def golden_of(version: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index and the arrays of `golden.npz`, read by what its module says of the format."""
    with np.load(version / "assets.extra" / "golden.npz", allow_pickle=False) as file:
        arrays = dict(file)
    index = json.loads(str(arrays.pop("index")))
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            padded = zip(array.flat, arrays[f"{name}/lengths"].flat, strict=True)
            whole = [value.ljust(length, b"\0") for value, length in padded]
            arrays[name] = np.array(whole, object).reshape(array.shape)
    return index, arrays


def replayed(version: Path, name: str) -> dict[str, dict[str, Any]]:
    """Signature → its outputs for the golden inputs, from the server's own loader and warm-up."""
    index, arrays = golden_of(version)
    found: dict[str, dict[str, Any]] = {}
    with contextlib.closing(load(name, 1, version)) as servable:
        warmup.run(servable, version)
        for signature, listed in index.items():
            definition = servable.signatures[signature]
            feeds = {
                definition.inputs[alias].name: arrays[array]
                for alias, array in listed["inputs"].items()
            }
            outputs = [definition.outputs[alias].name for alias in listed["outputs"]]
            found[signature] = dict(
                zip(listed["outputs"], servable.run(feeds, outputs), strict=True)
            )
    return found


@pytest.mark.parametrize("kind", zoo.ALL)
def test_a_model_is_published_and_answers_as_in_keras(
    kind: str, tmp_path: Path, export: Callable[..., Outcome]
) -> None:
    specimen = zoo.ALL[kind]()
    specimen.model.save(tmp_path / "own.keras")
    np.savez(tmp_path / "rows.npz", **specimen.samples)
    more = [f"--samples={tmp_path / 'rows.npz'}", *specimen.more]
    outcome = export(f"--model={tmp_path / 'own.keras'}", f"--name={kind}", *more)
    assert outcome == (0, "publish version 1")
    version = tmp_path / "models" / kind / "1"

    card = json.loads((version / "assets.extra" / "model_card.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(card)
    (definition,) = card["signatures"].values()
    assert definition["inputs"].keys() == specimen.inputs
    assert definition["outputs"].keys() == specimen.outputs
    sides = [*definition["inputs"].values(), *definition["outputs"].values()]
    assert {side["shape"][0] for side in sides} == {None}
    tolerance = 1e-2 if kind == "half_precision" else 1e-5
    assert card["tolerance"] == tolerance
    assert card["parity"]["serving_default"] <= tolerance

    index, arrays = golden_of(version)
    (served,) = replayed(version, kind).values()
    names = index["serving_default"]["inputs"]
    inputs = {alias: tf.constant(arrays[name]) for alias, name in names.items()}
    model = specimen.model
    expected = model(inputs if len(inputs) > 1 else inputs.popitem()[1])
    if not isinstance(expected, dict):
        several = expected if isinstance(expected, list | tuple) else [expected]
        expected = dict(zip(definition["outputs"], several, strict=False))
        if len(several) > 1:
            expected = dict(zip(("price", "kind"), several, strict=True))
    assert served.keys() == expected.keys()
    for name, values in expected.items():
        values = np.asarray(values, float)
        scale = max(1.0, np.abs(values).max())
        assert np.abs(served[name] - values).max() <= tolerance * scale

    if model.compiled:
        packed = {key: np.asarray(value) for key, value in specimen.samples.items()}
        truth = [value for key, value in packed.items() if key.startswith("y")]
        rows = [_as_declared(model, i, packed) for i in range(len(names))]
        told = model.evaluate(
            rows if len(rows) > 1 else rows[0],
            truth if len(truth) > 1 else truth[0],
            batch_size=zoo.ROWS,
            verbose=0,
            return_dict=True,
        )
        assert card["metrics"] == pytest.approx(told, rel=1e-4, abs=1e-5)
        assert list((version / "assets.extra").glob("*.svg"))


def _as_declared(model: Any, i: int, samples: dict[str, Any]) -> Any:
    tensor = model.inputs[i]
    values = samples[tensor.name] if tensor.name in samples else samples["x"]
    if values.ndim == 1:
        values = values[:, np.newaxis]
    return tf.constant(values if values.dtype.kind == "U" else values.astype(tensor.dtype))
