"""A model of Keras: its inputs and outputs by their names, and how it is saved for the server."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from export.errors import InputError, reason
from export.models import graph, scores
from export.models.samples import Samples
from export.npz import Array
from export.publication.golden import TOLERANCE

SIGNATURE = "serving_default"
# Weights up to here are constants of the graph: one file that cannot be read half. Beyond, they
# would cost what they save: the first call of a constant of 80 MB takes seconds.
MOST_CONSTANT_BYTES = 4 << 20

_HALF = {"float16", "bfloat16"}


class KerasModel:
    """A model that was loaded from a file.

    Args:
        path: of the file.
        imports: modules that define what of it is not Keras's.
        samples: tell the dtypes that a subclassed model does not.

    Raises:
        InputError: it cannot be loaded, or does not say its inputs.
    """

    def __init__(self, path: Path, imports: Sequence[str], samples: Samples) -> None:
        self._model = _load(path, imports)
        self._structure, self._specs = _inputs(self._model, samples)
        # Your own class need not have it.
        knows = "training" in inspect.signature(self._model.call).parameters
        self._inference = {"training": False} if knows else {}
        compute = {layer.compute_dtype for layer in _layers(self._model)}
        self.tolerance = 1e-2 if compute & _HALF else TOLERANCE
        self._weights = "variables"

    def save(self, folder: Path) -> None:
        """Write it, without the optimizer's state."""
        aliases = {re.sub(r"\W|^(?=\d)", "_", alias): alias for alias in self._specs}
        specs = [
            tf.TensorSpec(spec.shape, spec.dtype, name=name)
            for name, spec in zip(aliases, self._specs.values(), strict=True)
        ]
        if not self._save_constants(folder, specs):
            archive = keras.export.ExportArchive()
            archive.track(self._model)
            archive.add_endpoint(SIGNATURE, self._call(self._model), specs)
            archive.write_out(str(folder), verbose=False)
        graph.rename_inputs(folder, aliases)
        graph.check(folder)

    def answer(self, _signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, as it computes them here."""
        tensors = [tf.constant(inputs[alias], spec.dtype) for alias, spec in self._specs.items()]
        answers = self._call(self._model)(*tensors)
        return {name: value.numpy() for name, value in answers.items()}

    def score(
        self, truth: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> dict[str, float] | None:
        """The loss and the metrics that it was compiled with; None if it was not.

        Raises:
            InputError: the truth of an output is missing, or does not fit it.
        """
        if not self._model.compiled:
            return None
        if missing := [name for name in self._names if name not in truth]:
            raise InputError(f"samples lack y_{missing[0]}: the model is compiled for all outputs")
        y, y_pred = (
            tree.pack_sequence_as(self._answers, [values[name] for name in self._names])
            for values in (truth, outputs)
        )
        return scores.of_compiled(self._model, y, tree.map_structure(tf.constant, y_pred))

    def facts(self) -> dict[str, Any]:
        """What its card tells of it."""
        return {
            "parameters": int(self._model.count_params()),
            "layers": [layer.name for layer in self._model.layers],
            "weights": self._weights,
        }

    def _save_constants(self, folder: Path, specs: Sequence[tf.TensorSpec]) -> bool:
        """Whether it could be done: tables and variables of TensorFlow's own stay variables."""
        model = self._model
        if sum(variable.value.numpy().nbytes for variable in model.variables) > MOST_CONSTANT_BYTES:
            return False
        trained = [tf.constant(variable) for variable in model.trainable_variables]
        fixed = [tf.constant(variable) for variable in model.non_trainable_variables]
        call = self._call(
            lambda *inputs, **how: model.stateless_call(trained, fixed, *inputs, **how)[0]
        )
        try:
            function = tf.function(call, autograph=False).get_concrete_function(*specs)
        except Exception:  # a layer that does not let its weights be replaced
            return False
        if any(outer.dtype == tf.resource for outer, _ in function.graph.captures):
            return False
        tf.saved_model.save(tf.Module(), str(folder), {SIGNATURE: function})
        self._weights = "constants"
        return True

    def _call(self, model: Callable[..., Any]) -> Callable[..., dict[str, tf.Tensor]]:
        """The model as a function of its inputs one by one; it notes the outputs' structure."""

        def call(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            packed = tree.pack_sequence_as(self._structure, list(tensors))
            self._answers = model(packed, **self._inference)
            self._names = _output_names(self._model, self._answers)
            return dict(zip(self._names, tree.flatten(self._answers), strict=True))

        return call


def _load(path: Path, imports: Sequence[str]) -> keras.Model:
    known: dict[str, Any] = {}
    for name in imports:
        try:
            known |= vars(importlib.import_module(name))
        except Exception as error:  # of whatever kind: it is somebody's program
            raise InputError(f"--import {name}: {type(error).__name__}: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an optimizer's state, which no answer needs
            model = keras.saving.load_model(path, custom_objects=known)
    except Exception as error:  # Keras raises many kinds
        raise InputError(f"{path} cannot be loaded: {_reason(error)}") from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{path} holds a {type(model).__name__}; expected a keras.Model")
    return model


def _reason(error: Exception) -> str:
    text = str(error)
    if missing := re.search(r"Could not locate (?:class|function) '([^']+)'", text):
        return f"{missing[1]} is not Keras's own; --import MODULE loads the module that defines it"
    if "`Lambda`" in text:
        return (
            "it holds a Lambda layer, which is a program and not opened; put what it does into a "
            "layer class of a module, and give --import MODULE"
        )
    if "No model config" in text:
        return "it holds weights alone; save the model whole: model.save('NAME.keras')"
    return reason(error)


def _inputs(model: keras.Model, samples: Samples) -> tuple[Any, dict[str, tf.TensorSpec]]:
    """The structure that the model is called with, and its leaves by name."""
    if isinstance(model, keras.Sequential):
        structure = model.inputs[0] if model.built else None
    else:
        structure = getattr(model, "input", None)
    if structure is not None:
        return structure, {
            path[-1] if path and isinstance(path[-1], str) else tensor.name: tf.TensorSpec(
                tensor.shape, tensor.dtype
            )
            for path, tensor in tree.flatten_with_path(structure)
        }
    # It tells only the shapes that your own class was called with when it was saved.
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None or (isinstance(shapes, list) and isinstance(shapes[0], list)):
        raise InputError(
            f"model {model.name} does not say its inputs; call it once, with a tensor or a dict of "
            "tensors, then save it"
        )
    structure = 0 if isinstance(shapes, list) else dict.fromkeys(shapes, 0)
    if isinstance(shapes, list):
        shapes = {next(iter(inspect.signature(model.call).parameters)): shapes}
    specs = {}
    for alias in sorted(shapes):  # the order in which `tree` has them
        given = samples.arrays.get(alias, samples.arrays.get("x"))
        dtype = tf.as_dtype(model.input_dtype)
        if given is not None and given.dtype.kind in "iUS":
            dtype = tf.string if given.dtype.kind in "US" else tf.as_dtype(given.dtype)
        specs[alias] = tf.TensorSpec([None, *shapes[alias][1:]], dtype)
    return structure, specs


def _layers(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _layers(inner)


def _output_names(model: keras.Model, answers: Any) -> list[str]:
    """Keys, or else names of the layers that they come from, each once."""
    paths = [path for path, _ in tree.flatten_with_path(answers)]
    plain = getattr(model, "output_names", None) or len(paths) * ["output"]
    if isinstance(model, keras.Sequential):
        plain = [model.layers[-1].name]
    names: list[str] = []
    for path, name in zip(paths, plain, strict=True):
        name = path[-1] if path and isinstance(path[-1], str) else name
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names
