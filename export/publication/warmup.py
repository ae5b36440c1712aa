"""Requests that the server plays before a version counts as AVAILABLE.

Without them the first callers after every switch pay for TensorFlow's lazy set-up. Format: a
TFRecord file of `PredictionLog`s, at most 1,000 (TensorFlow Serving, "SavedModel Warmup").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

PATH = Path("assets.extra", "tf_serving_warmup_requests")
# One of each size that the server forms when it batches; a GPU plans its kernels for each.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

_OF_EXAMPLES = {
    tf.saved_model.CLASSIFY_METHOD_NAME: "classify_log",
    tf.saved_model.REGRESS_METHOD_NAME: "regress_log",
}


def write(folder: Path, requests: Iterable[PredictionLog]) -> None:
    """Write `PATH` under a version's folder."""
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request.SerializeToString())


def request(name: str, signature: str, method: str, inputs: Mapping[str, Any]) -> PredictionLog:
    """A request to the model `name`, of the kind that the signature's method wants.

    Args:
        name: the model's.
        signature: its name.
        method: as the signature says it; Classify and Regress have one input, tf.Examples.
        inputs: array-like, by alias.
    """
    log = PredictionLog()
    if method in _OF_EXAMPLES:
        asked = getattr(log, _OF_EXAMPLES[method]).request
        (examples,) = inputs.values()
        asked.input.example_list.examples.extend(map(tf.train.Example.FromString, examples))
    else:
        asked = log.predict_log.request
        for alias, values in inputs.items():
            asked.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    asked.model_spec.name = name
    asked.model_spec.signature_name = signature
    return log
