"""Requests that the server plays before a version counts as AVAILABLE.

Without them the first callers after every switch pay for TensorFlow's lazy set-up. Format: a
TFRecord file of `PredictionLog`s, at most 1,000 (TensorFlow Serving, "SavedModel Warmup").
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export.golden import Golden
from export.signatures import example

PATH = Path("assets.extra", "tf_serving_warmup_requests")
# One of each size that the server forms when it batches; a GPU plans its kernels for each.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


def write(folder: Path, name: str, golden: Golden) -> None:
    """Write one request per signature and batch size, made of the golden digits."""
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in BATCH_SIZES:
            for log in _requests(name, golden, size):
                writer.write(log.SerializeToString())


def _requests(name: str, golden: Golden, size: int) -> list[prediction_log_pb2.PredictionLog]:
    logs = []
    for signature, alias in (
        ("serving_default", "images"),
        ("predict_images", "images"),
        ("packed", "images"),
        ("encoded", "image_bytes"),
    ):
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        values = golden.inputs[signature][:size]
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
        logs.append(log)
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.name = name
    log.classify_log.request.model_spec.signature_name = "classify"
    log.classify_log.request.input.example_list.examples.extend(
        example(file) for file in golden.inputs["encoded"][:size]
    )
    return [*logs, log]
