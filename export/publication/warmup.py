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


def write(folder: Path, requests: Iterable[PredictionLog]) -> None:
    """Write `PATH` under a version's folder."""
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request.SerializeToString())


def predict(name: str, signature: str, inputs: Mapping[str, Any]) -> PredictionLog:
    """A Predict of the model `name`; the inputs are array-like, by alias."""
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return log


def classify(name: str, signature: str, examples: Iterable[tf.train.Example]) -> PredictionLog:
    """A Classify of the model `name`."""
    log = PredictionLog()
    request = log.classify_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(examples)
    return log
