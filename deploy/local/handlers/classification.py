"""Classify and Regress: what each asks of a signature, and what it makes of the outputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from deploy.local.errors import invalid
from deploy.local.tensors import Array, dtype_of

INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"


class Classes(NamedTuple):
    """What Classify found: labels (bytes) and scores, both [examples, classes]."""

    labels: Array
    scores: Array


# Regress finds one number for each example.
Result = Classes | Array


class Kind(NamedTuple):
    """A way to use a signature.

    Attributes:
        noun: its name in messages.
        method: the method name of signatures meant for it.
        refusals: tests of a signature and the texts for those it fails, in order.
        outputs: aliases fetched if the signature has them.
        result: checks the arrays by alias, given the number of examples.
        fill: writes a result into an empty message.
    """

    noun: str
    method: str
    refusals: Sequence[tuple[Callable[[Any], bool], str]]
    outputs: Sequence[str]
    result: Callable[[Mapping[str, Array], int], Result]
    fill: Callable[[Any, Any], None]


def _classes(outputs: Mapping[str, Array], examples: int) -> Classes:
    for alias, dtype in ((_CLASSES, types_pb2.DT_STRING), (_SCORES, types_pb2.DT_FLOAT)):
        if alias in outputs:
            _check_classes(alias, outputs[alias], dtype, examples)
    either = next(iter(outputs.values()))
    labels = outputs.get(_CLASSES, np.full(either.shape, b"", object))
    scores = outputs.get(_SCORES, np.zeros(either.shape, np.float32))
    widths = labels.shape[1], scores.shape[1]
    if widths[0] != widths[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    return Classes(labels, scores)


def _check_classes(alias: str, array: Array, dtype: int, examples: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if dtype_of(array) != dtype:
        raise invalid(
            f"Expected {alias} Tensor of {_dtype_name(dtype)}. Got: {_dtype_name(dtype_of(array))}"
        )
    if len(array) != examples:
        raise invalid(f"Expected {alias} output batch size of {examples}. Got: {len(array)}")


def _values(outputs: Mapping[str, Array], examples: int) -> Array:
    (array,) = outputs.values()
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"
            f" but got {_shape(array)}"
        )
    if len(array) != examples:
        raise invalid(
            f"Input batch size did not match output batch size: {examples} vs. {len(array)}"
        )
    if dtype_of(array) != types_pb2.DT_FLOAT:
        name = _dtype_name(dtype_of(array))
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {name}")
    return array.ravel()


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype_name(dtype: int) -> str:
    return str(types_pb2.DataType.Name(dtype))


def _fill_classes(result: Classes, message: Any) -> None:
    for labels, scores in zip(result.labels.tolist(), result.scores.tolist(), strict=True):
        row = message.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            row.classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_values(result: Array, message: Any) -> None:
    for value in result.tolist():
        message.regressions.add(value=value)


_ONE_INPUT = (lambda signature: len(signature.inputs) != 1, "Expected one input Tensor.")
_INPUT_ALIAS = (
    lambda signature: INPUTS not in signature.inputs,
    "No {noun} inputs found in SignatureDef: {signature}",
)
CLASSIFY = Kind(
    "classification",
    "tensorflow/serving/classify",
    (
        _ONE_INPUT,
        (
            lambda signature: len(signature.outputs) not in (1, 2),
            "Expected one or two output Tensors, found {outputs}",
        ),
        _INPUT_ALIAS,
        (
            lambda signature: not {_CLASSES, _SCORES} & set(signature.outputs),
            'Expected {noun} signature outputs to contain at least one of "classes" or "scores".'
            " Signature was: {signature}",
        ),
    ),
    (_CLASSES, _SCORES),
    _classes,
    _fill_classes,
)
REGRESS = Kind(
    "regression",
    "tensorflow/serving/regress",
    (
        _ONE_INPUT,
        (lambda signature: len(signature.outputs) != 1, "Expected one output Tensor."),
        _INPUT_ALIAS,
        (
            lambda signature: _OUTPUTS not in signature.outputs,
            "No {noun} outputs found in SignatureDef: {signature}",
        ),
    ),
    (_OUTPUTS,),
    _values,
    _fill_values,
)
KINDS = {kind.method: kind for kind in (CLASSIFY, REGRESS)}


def check_signature(kind: Kind, signature: meta_graph_pb2.SignatureDef, check_method: bool) -> None:
    """Refuse a signature that this kind cannot use.

    Raises:
        ServingError: INVALID_ARGUMENT with the server's text.
    """
    if check_method and signature.method_name != kind.method:
        raise invalid(
            f"Expected {kind.noun} signature method_name to be {kind.method}."
            f" Was: {signature.method_name}"
        )
    for refuses, text in kind.refusals:
        if refuses(signature):
            shown = text_format.MessageToString(signature, as_utf8=False)
            outputs = len(signature.outputs)
            raise invalid(text.format(noun=kind.noun, signature=shown, outputs=outputs))
