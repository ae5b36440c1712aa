"""What cannot be served says why in one sentence, and nothing is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.__main__ import main
from export.errors import InputError
from export.models import graph
from tests.export.models import zoo
from tests.export.models.conftest import Outcome

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Export = Callable[..., Outcome]


def _linear(*layers: Any, **input: Any) -> keras.Model:
    return keras.Sequential([keras.Input((2,), name="x", **input), *layers])


def _weights_alone(path: Path) -> Path:
    file = path.with_suffix(".weights.h5")
    _linear(keras.layers.Dense(1)).save_weights(file)
    return file


def _saved(build: Callable[[], keras.Model]) -> Callable[[Path], Path]:
    def save(path: Path) -> Path:
        build().save(path.with_suffix(".keras"))
        return path.with_suffix(".keras")

    return save


def _module(function: Any, shape: list[int | None], **how: Any) -> Callable[[Path], Path]:
    def save(path: Path) -> Path:
        spec = tf.TensorSpec(shape, tf.float32, name="x")
        traced = tf.function(function, autograph=False, **how).get_concrete_function(spec)
        tf.saved_model.save(tf.Module(), str(path), {"serving_default": traced})
        return path

    return save


def _unsigned(path: Path) -> Path:
    tf.saved_model.save(tf.Module(), str(path))
    return path


def _damaged(path: Path) -> Path:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\xff\xff")
    return path


KINDS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "fixed": (
        _saved(lambda: _linear(keras.layers.Dense(1), batch_size=8)),
        "input x has a fixed batch dimension of 8",
    ),
    "unknown": (_saved(lambda: zoo.own_layer().model), "Scale is not Keras's own; --import MODULE"),
    "lambda": (
        _saved(lambda: _linear(keras.layers.Lambda(lambda x: x))),
        "it holds a Lambda layer",
    ),
    "weights": (_weights_alone, "it holds weights alone"),
    "unbuilt": (_saved(lambda: keras.Sequential(name="new")), "model new does not say its inputs"),
    "python": (
        _module(lambda x: {"y": tf.numpy_function(lambda v: v, [x], tf.float32)}, [None, 2]),
        "calls Python, which the server lacks",
    ),
    "compiled": (_module(lambda x: {"y": x + 1}, [None, 2], jit_compile=True), "compiled by XLA"),
    "one": (_module(lambda x: {"y": x + 1}, [1, 2]), "has a fixed batch dimension of 1"),
    "unsigned": (_unsigned, "has no signature"),
    "damaged": (_damaged, "saved_model.pb is damaged"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:You are saving a model that has not:UserWarning")
def test_what_cannot_be_served(kind: str, tmp_path: Path, export: Export) -> None:
    save, words = KINDS[kind]
    outcome = export(f"--model={save(tmp_path / 'own')}", "--name=own")
    assert outcome.status == 2
    assert words in outcome.last
    assert not (tmp_path / "models").exists()


def test_an_operation_that_is_nobodys(tmp_path: Path) -> None:
    model = saved_model_pb2.SavedModel()
    model.meta_graphs.add().graph_def.node.add(op="MatMul", name="fine")
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    graph.check(tmp_path)
    model.meta_graphs[0].graph_def.library.function.add().node_def.add(op="Frobnicate", name="f1")
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"operation Frobnicate \(f1\) is not TensorFlow's own"):
        graph.check(tmp_path)


def test_a_saved_model_that_never_answers_the_same(tmp_path: Path, export: Export) -> None:
    save = _module(lambda x: {"y": x + tf.random.uniform(tf.shape(x))}, [None, 2])
    outcome = export(f"--model={save(tmp_path / 'own')}", "--name=own")
    assert outcome.status == 1
    assert "signature serving_default differs by " in outcome.last
    assert "from its golden answers; at most 1e-05 is allowed" in outcome.last


def test_a_saved_model_that_lost_its_weights(tmp_path: Path, export: Export) -> None:
    module = tf.Module()
    module.slope = tf.Variable(2.0)
    module.f = tf.function(lambda x: {"y": module.slope * x}, autograph=False)
    signature = module.f.get_concrete_function(tf.TensorSpec([None], name="x"))
    tf.saved_model.save(module, str(tmp_path / "own"), signature)
    shutil.rmtree(tmp_path / "own" / "variables")
    outcome = export(f"--model={tmp_path / 'own'}", "--name=own")
    assert outcome.status == 1
    assert "not published: the candidate does not answer as the server loads it" in outcome.last
    assert not (tmp_path / "models").exists()


def test_a_module_around_keras_variables_is_refused_by_the_servers_path(
    tmp_path: Path, export: Export
) -> None:
    class Wrapped(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = _linear(keras.layers.Dense(1))

        @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])  # type: ignore[untyped-decorator]
        def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": self.model(x)}

    wrapped = Wrapped()
    tf.saved_model.save(wrapped, str(tmp_path / "own"), {"serving_default": wrapped.call})
    outcome = export(f"--model={tmp_path / 'own'}", "--name=own")
    assert outcome.status == 1
    assert "Could not find variable" in outcome.last


def test_samples_and_limits_that_do_not_fit(tmp_path: Path, export: Export) -> None:
    specimen = zoo.dense()
    specimen.model.save(tmp_path / "own.keras")
    np.savez(tmp_path / "rows.npz", **specimen.samples)
    np.savez(tmp_path / "wide.npz", x=np.zeros((3, 9)))
    rows = f"--samples={tmp_path / 'rows.npz'}"
    given = [f"--check={tmp_path / 'own.keras'}", "--name=own"]
    for more, status, words in [
        ([f"--samples={tmp_path / 'wide.npz'}"], 2, "expected (n, 4)"),
        (["--min=accuracy=0.5"], 2, "accuracy cannot be measured without truth"),
        ([rows, "--max=nonsense=1"], 2, "nonsense cannot be"),
        ([rows, "--min=accuracy=1"], 1, "--min asks for at least 1"),
        ([rows, "--max=loss=0"], 1, "--max asks for at most 0"),
        (["--import=no.such.module"], 2, "--import no.such.module: ModuleNotFoundError"),
    ]:
        outcome = export(*given, *more)
        assert outcome.status == status, outcome
        assert words in outcome.last
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--model=a.keras"],
        ["--model=a.keras", "--name=a", "--recipe=best"],
        ["--check=a.keras", "--min-accuracy=0.5"],
        ["--check=a.keras", "--model=a.keras"],
        ["--samples=a.npz"],
        ["--max=mae=3"],
        ["--check=a.keras", "--min=accuracy"],
        ["--check=a.keras", "--max-regression=-1"],
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(flags)
    assert exit_.value.code == 2
    assert "error: argument" in capsys.readouterr().err
