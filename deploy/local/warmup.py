"""Requests that a version must answer before it is served to anybody."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from deploy.local.errors import Code, ServingError, invalid
from deploy.local.servable import Servable

MAX_RECORDS = 1000

_log = logging.getLogger(__name__)
_LOG_NUMBERS = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name
_REFUSED = ("session_run_log", "predict_streamed_log")


def run(
    servable: Servable,
    path: Path,
    predict: Callable[[Servable, predict_pb2.PredictRequest], object],
    iterations: int = 0,
) -> None:
    """Send a version folder's warm-up requests, each `iterations` times (0 means once).

    Classify, Regress and MultiInference records are counted but not run.

    Raises:
        ServingError: whatever is wrong with the file or with an answer; the load has failed.
    """
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    if not file.exists():
        _log.info("No warmup data file found at %s", file)
        return
    count = 0
    for record in _records(file):
        count += 1
        if count > MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        log = _parse(record, file)
        kind = log.WhichOneof("log_type")
        if kind in _REFUSED:
            number = _LOG_NUMBERS[kind].number
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
        if kind == "predict_log":
            for _ in range(max(1, iterations)):
                predict(servable, log.predict_log.request)
    _log.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d.",
        file,
        count,
    )


def _records(file: Path) -> Iterator[bytes]:
    try:
        yield from tf.compat.v1.io.tf_record_iterator(str(file))
    except tf.errors.DataLossError as error:
        raise ServingError(
            Code.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from None


def _parse(record: bytes, file: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        text = record.decode("utf-8", "replace")
        raise invalid(f"Failed to parse warmup record: {text} from {file}") from None
