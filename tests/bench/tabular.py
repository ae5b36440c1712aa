"""A model of eight named columns, and the official way to ask it.

Callers of the official package pass `tf.make_tensor_proto` what they hold: an array, which is what
its documentation shows ("generating TF Serving request protos"), as from the columns of a data
frame; or a list of Python's values, as JSON brings them, for which they have to name the dtype
(it would make int32 of integers). They read the answer with `tf.make_ndarray`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.bench.paired import Work

NAME = "tabular"
SIGNATURE = "serving_default"
Columns = Mapping[str, NDArray[Any]]
Lists = Mapping[str, Sequence[Any]]
_DTYPES = {
    **{f"share{i}": tf.float32 for i in range(4)},
    **{f"count{i}": tf.int64 for i in range(3)},
    "city": tf.string,
}


def columns(rows: int) -> Columns:
    """Values of every column: four of float32, three of int64, one of text."""
    values = np.random.default_rng(0)
    return {
        **{f"share{i}": values.random(rows, np.float32) for i in range(4)},
        **{f"count{i}": values.integers(0, 1_000, rows) for i in range(3)},
        "city": values.choice(np.array([b"Graz", b"Linz", b"Wien"], object), rows),
    }


def lists(columns: Columns) -> Lists:
    """The same in Python's own values, text among them."""
    held = {name: values.tolist() for name, values in columns.items()}
    return {**held, "city": [city.decode() for city in held["city"]]}


def save(folder: Path) -> None:
    """Save the model, which answers with a number and a text for each row, as version 1."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None], dtype, name) for name, dtype in _DTYPES.items()]
    )
    def predict(*tensors: Any) -> dict[str, Any]:
        *numbers, city = tensors
        total = tf.add_n([tf.cast(number, tf.float32) for number in numbers])
        return {"total": total, "city": tf.strings.upper(city)}

    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures=predict)


@contextmanager
def official(address: str, inputs: Columns | Lists) -> Iterator[Work]:
    """With tensorflow-serving-api, tensors made and read by TensorFlow."""
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def work() -> int:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = NAME
            request.model_spec.signature_name = SIGNATURE
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values, _DTYPES[name]))
            answer = stub.Predict(request, timeout=10)
            outputs = {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
            return len(outputs["total"])

        yield work
