"""Requests that a version must answer before it is served."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.python.framework import errors_impl
from tensorflow.python.lib.io._pywrap_record_io import RecordIterator
from tensorflow_serving.apis import prediction_log_pb2

from deploy.local import metrics, tensors
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.handlers import examples, inference
from deploy.local.handlers.classification import CLASSIFY, REGRESS, Kind
from deploy.local.handlers.prediction import predict
from deploy.local.models.servable import Servable

MAX_RECORDS = 1000

_log = logging.getLogger(__name__)
_LOG_NUMBERS = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name
_REFUSED = ("session_run_log", "predict_streamed_log")

# Answers a request with a version; True: refuse signatures with another method name.
Answer = Callable[[Servable, Any, bool], object]


def _predict(servable: Servable, request: Any, check: bool) -> object:
    name, wanted = request.model_spec.signature_name, request.output_filter
    return predict(servable, name, request.inputs, tensors.decode, wanted, check_method=check)


def _infer(kind: Kind) -> Answer:
    def answer(servable: Servable, request: Any, check: bool) -> object:
        name, batch = request.model_spec.signature_name, examples.from_message(request.input)
        return inference.run(servable, kind, name, batch, check_method=check)

    return answer


def _infer_tasks(servable: Servable, request: Any, check: bool) -> object:
    batch = examples.from_message(request.input)
    return inference.run_tasks(servable, request.tasks, batch, check_method=check)


# A record's number in its file, and what is wrong with it.
Fault = tuple[int, ServingError]

ANSWERS: Mapping[str, Answer] = {
    "predict_log": _predict,
    "classify_log": _infer(CLASSIFY),
    "regress_log": _infer(REGRESS),
    "multi_inference_log": _infer_tasks,
}


def run(
    servable: Servable,
    path: Path,
    iterations: int = 0,
    *,
    check_method: bool = False,
    answers: Mapping[str, Answer] = ANSWERS,
) -> None:
    """Send a version folder's warm-up requests, each `iterations` times (0 means once).

    Requests of one kind are sent in the file's order, and the kinds at the same time: the first run
    of a signature prepares its part of the graph on one core, for up to half a second.

    Raises:
        ServingError: what is wrong with the first faulty record or its answer; the load has failed.
    """
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    if not file.exists():
        _log.info("No warmup data file found at %s", file)
        return

    def send(kind: str) -> Fault | None:
        for number, request in requests[kind]:
            try:
                for _ in range(max(1, iterations)):
                    answers[kind](servable, request, check_method)
            except ServingError as error:
                return number, error
        return None

    count = 0
    with metrics.warmup(path, lambda: count), ThreadPoolExecutor(len(answers)) as pool:
        count, requests, unreadable = _read(file)
        faults = [*filter(None, pool.map(send, requests)), *unreadable]
        if faults:
            count, error = min(faults, key=itemgetter(0))
            raise error
    _log.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d.",
        file,
        count,
    )


def _read(file: Path) -> tuple[int, Mapping[str, list[tuple[int, Any]]], list[Fault]]:
    """How many records there are, numbered requests by kind, and what ended the reading early."""
    requests: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    count = 0
    try:
        for record in _records(file):
            count += 1
            if count > MAX_RECORDS:
                what = f"Number of warmup records exceeds the maximum ({MAX_RECORDS})"
                raise invalid(f"{what} at {file}")
            log = _parse(record, file)
            kind = log.WhichOneof("log_type")
            if kind in _REFUSED:
                number = _LOG_NUMBERS[kind].number
                raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
            if kind is not None:
                requests[kind].append((count, getattr(log, kind).request))
    except ServingError as error:
        return count, requests, [(count, error)]
    return count, requests, []


def _records(file: Path) -> Iterator[bytes]:
    try:
        yield from RecordIterator(str(file), "")
    except errors_impl.DataLossError as error:
        raise ServingError(
            Code.DATA_LOSS,
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from None


def _parse(record: bytes, file: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        text = record.decode("utf-8", "surrogateescape")
        raise invalid(f"Failed to parse warmup record: {text} from {file}") from None
