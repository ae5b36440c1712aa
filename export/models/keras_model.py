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
import numpy as np
import tensorflow as tf
from keras import tree

from export.errors import InputError, reason
from export.models import graph
from export.models.samples import Input, Samples
from export.publication.serving_path import Array

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
        InputError: it cannot be loaded, or not be served.
    """

    main = SIGNATURE

    def __init__(self, path: Path, imports: Sequence[str], samples: Samples) -> None:
        self._model = _load(path, imports)
        self._structure, self._inputs = _inputs(self._model, samples)
        for alias, shape in ((alias, input.shape) for alias, input in self._inputs.items()):
            if shape and shape[0] is not None:
                raise InputError(
                    f"input {alias} has a fixed batch dimension of {shape[0]}: the server needs a "
                    "free one; build the model with keras.Input(shape), without batch_size"
                )
        # A class of one's own need not have it.
        knows = "training" in inspect.signature(self._model.call).parameters
        self._inference = {"training": False} if knows else {}
        compute = {layer.compute_dtype for layer in _layers(self._model)}
        self.tolerance = 1e-2 if compute & _HALF else 1e-5
        self.signatures = {SIGNATURE: self._inputs}
        self._weights = "variables"

    def facts(self) -> dict[str, Any]:
        """What its card tells of it."""
        return {
            "parameters": int(self._model.count_params()),
            "layers": [layer.name for layer in self._model.layers],
            "weights": self._weights,
        }

    def answer(self, _signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by name, as it computes them here."""
        tensors = [tf.constant(inputs[alias], self._dtype(alias)) for alias in self._inputs]
        answers = self._call(lambda packed: self._model(packed, **self._inference))(*tensors)
        return {name: value.numpy() for name, value in answers.items()}

    def score(
        self, truth: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> dict[str, float] | None:
        """The loss and the metrics that it was compiled with; None if it was not.

        Raises:
            InputError: the truth of an output is missing, or not of its shape.
        """
        if not self._model.compiled:
            return None
        if missing := [name for name in self._names if name not in truth]:
            raise InputError(f"samples lack y_{missing[0]}: the model is compiled for all outputs")
        packed = [
            tree.pack_sequence_as(self._answers, [values[name] for name in self._names])
            for values in (truth, {name: tf.constant(value) for name, value in outputs.items()})
        ]
        self._model.reset_metrics()
        loss = self._model.compute_loss(None, *packed, training=False)
        metrics = self._model.compute_metrics(None, *packed)
        return {name: float(value) for name, value in metrics.items()} | {"loss": float(loss)}

    def save(self, folder: Path) -> None:
        """Write it, without the optimizer's state."""
        aliases = {re.sub(r"\W|^(?=\d)", "_", alias): alias for alias in self._inputs}
        specs = [
            tf.TensorSpec(input.shape, self._dtype(alias), name=name)
            for (name, alias), input in zip(aliases.items(), self._inputs.values(), strict=True)
        ]
        if not self._save_constants(folder, specs):
            archive = keras.export.ExportArchive()
            archive.track(self._model)
            call = self._call(lambda packed: self._model(packed, **self._inference))
            archive.add_endpoint(SIGNATURE, call, specs)
            archive.write_out(str(folder), verbose=False)
        graph.rename_inputs(folder, aliases)

    def _save_constants(self, folder: Path, specs: Sequence[tf.TensorSpec]) -> bool:
        """Whether it could be done: tables and variables of TensorFlow's own stay variables."""
        model = self._model
        if sum(variable.value.numpy().nbytes for variable in model.variables) > MOST_CONSTANT_BYTES:
            return False
        trained = [tf.constant(variable) for variable in model.trainable_variables]
        fixed = [tf.constant(variable) for variable in model.non_trainable_variables]
        call = self._call(
            lambda packed: model.stateless_call(trained, fixed, packed, **self._inference)[0]
        )
        function = tf.function(call, autograph=False).get_concrete_function(*specs)
        if any(outer.dtype == tf.resource for outer, _ in function.graph.captures):
            return False
        tf.saved_model.save(tf.Module(), str(folder), {SIGNATURE: function})
        self._weights = "constants"
        return True

    def _call(self, model: Callable[[Any], Any]) -> Callable[..., dict[str, tf.Tensor]]:
        """The model as a function of its inputs one by one; it notes the outputs' structure."""

        def call(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            answers = model(tree.pack_sequence_as(self._structure, list(tensors)))
            self._answers, self._names = answers, _output_names(self._model, answers)
            return dict(zip(self._names, tree.flatten(answers), strict=True))

        return call

    def _dtype(self, alias: str) -> tf.DType:
        dtype = self._inputs[alias].dtype
        return tf.string if dtype.hasobject else tf.as_dtype(dtype)


def _load(path: Path, imports: Sequence[str]) -> keras.Model:
    known: dict[str, Any] = {}
    for name in imports:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # of whatever kind: it is somebody's program
            raise InputError(f"--import {name}: {type(error).__name__}: {error}") from error
        defined = {key: value for key, value in vars(module).items() if callable(value)}
        known |= {
            key: value
            for key, value in defined.items()
            if getattr(value, "__module__", None) == module.__name__
        }
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


def _inputs(model: keras.Model, samples: Samples) -> tuple[Any, dict[str, Input]]:
    """The structure that the model is called with, and its leaves by name."""
    if isinstance(model, keras.Sequential):
        structure = model.inputs[0] if model.built else None
    else:
        structure = getattr(model, "input", None)
    if structure is None:
        return _subclassed_inputs(model, samples)
    leaves = {}
    for path, tensor in tree.flatten_with_path(structure):
        alias = path[-1] if path and isinstance(path[-1], str) else tensor.name
        dtype = tf.as_dtype(tensor.dtype).as_numpy_dtype
        leaves[alias] = Input(np.dtype(dtype), tuple(tensor.shape), _choices(model, tensor))
    return structure, leaves


def _subclassed_inputs(model: keras.Model, samples: Samples) -> tuple[Any, dict[str, Input]]:
    """Of what it was called with when it was saved, a class of one's own tells the shapes alone."""
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None:
        raise InputError(f"model {model.name} does not say its inputs; call it once, then save it")
    if not isinstance(shapes, Mapping):
        shapes = {next(iter(inspect.signature(model.call).parameters)): shapes}
        structure: Any = 0
    else:
        structure = dict.fromkeys(shapes, 0)
    leaves = {}
    for alias in sorted(shapes):  # the order in which `tree` has them
        given = samples.arrays.get(alias, samples.arrays.get("x"))
        dtype = np.dtype(model.input_dtype)
        if given is not None and given.dtype.kind in "iUS":
            dtype = np.dtype(object) if given.dtype.kind in "US" else given.dtype
        leaves[alias] = Input(dtype, (None, *shapes[alias][1:]))
    return structure, leaves


def _choices(model: keras.Model, tensor: Any) -> Array | None:
    """Values that a layer right behind an input knows, or else any layer for strings."""
    is_text = tensor.dtype == "string"
    layers = list(_layers(model))
    behind = [layer for layer in layers if getattr(layer, "input", None) is tensor]
    for layer in behind + (layers if is_text else []):
        if hasattr(layer, "get_vocabulary"):
            words = np.array(layer.get_vocabulary(include_special_tokens=False))
            if len(words) and (words.dtype.kind in "US") == is_text:
                return np.char.encode(words, "utf-8").astype(object) if is_text else words
        if size := getattr(layer, "input_dim", getattr(layer, "num_tokens", None)):
            return np.arange(size)
    return None


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
