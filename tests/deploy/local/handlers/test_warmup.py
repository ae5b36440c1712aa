import threading
import types
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from deploy.local.errors import ServingError, invalid
from deploy.local.handlers import warmup


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes warm-up records into a version folder, and returns the folder."""

    def write_records(*records: Any) -> Path:
        (tmp_path / "assets.extra").mkdir()
        file = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in records:
                writer.write(record)
        return tmp_path

    return write_records


def record(kind: str, **fields: Any) -> bytes:
    log: Any = prediction_log_pb2.PredictionLog()
    getattr(log, kind).SetInParent()
    for name, value in fields.items():
        getattr(log, kind).request.model_spec.__setattr__(name, value)
    return bytes(log.SerializeToString())


def signatures_run(folder: Path, iterations: int = 0) -> list[str]:
    seen: list[str] = []
    servable: Any = None

    def answer(_servable: Any, request: Any, _check: bool) -> None:
        seen.append(request.model_spec.signature_name)

    warmup.run(servable, folder, iterations, answers={"predict_log": answer})
    return seen


def refusal(folder: Path) -> str:
    with pytest.raises(ServingError) as caught:
        signatures_run(folder)
    return str(caught.value)


def test_no_file_is_fine(tmp_path: Path) -> None:
    assert signatures_run(tmp_path) == []


def test_records_run_in_order_as_often_as_asked(write: Any) -> None:
    folder = write(
        record("predict_log", signature_name="a"), b"", record("predict_log", signature_name="b")
    )
    assert signatures_run(folder) == ["a", "b"]
    assert signatures_run(folder, 2) == ["a", "a", "b", "b"]


def test_kinds_run_at_the_same_time(write: Any) -> None:
    folder = write(record("predict_log"), record("classify_log"))
    both = threading.Barrier(2, timeout=30)
    answers = dict.fromkeys(["predict_log", "classify_log"], lambda *_: both.wait())
    servable: Any = None
    warmup.run(servable, folder, answers=answers)
    assert not both.broken


@pytest.mark.parametrize("last", [b"", b"\x0a\x7funreadable"])
def test_the_first_faulty_record_is_told(write: Any, last: bytes) -> None:
    kinds = ["regress_log", "predict_log", "classify_log"]
    folder = write(*map(record, kinds), last)

    def fail(_servable: Any, request: Any, _check: bool) -> None:
        raise invalid(type(request).__name__)

    answers = dict.fromkeys(kinds, fail) | {"regress_log": lambda *_: None}
    servable: Any = None
    with pytest.raises(ServingError, match="INVALID_ARGUMENT: PredictRequest"):
        warmup.run(servable, folder, answers=answers)


@pytest.mark.parametrize(("kind", "number"), [("session_run_log", 5), ("predict_streamed_log", 7)])
def test_refused_kinds(write: Any, kind: str, number: int) -> None:
    assert refusal(write(record(kind))) == (
        f"UNIMPLEMENTED: Unsupported log_type for warmup: {number}"
    )


def test_a_broken_record(write: Any) -> None:
    folder = write(b"\x0a\x7ftoo short")
    assert refusal(folder) == (
        "INVALID_ARGUMENT: Failed to parse warmup record: \n\x7ftoo short from"
        f" {folder}/assets.extra/tf_serving_warmup_requests"
    )


def test_no_record_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not records" * 9)
    message = refusal(tmp_path)
    assert message.startswith("DATA_LOSS: ")
    assert message.endswith("Please verify your warmup data is in TFRecord format.")


def test_too_many_records(write: Any) -> None:
    folder = write(*[b""] * 1001)
    assert refusal(folder).startswith(
        "INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000) at "
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("predict_log", 'FAILED_PRECONDITION: Serving signature key "none" not found.'),
        ("classify_log", "INVALID_ARGUMENT: No signature was found with the name: none"),
        ("regress_log", "INVALID_ARGUMENT: No signature was found with the name: none"),
    ],
)
def test_records_of_each_kind_reach_their_signature(write: Any, kind: str, message: str) -> None:
    servable: Any = types.SimpleNamespace(name="m", signatures={})
    with pytest.raises(ServingError) as caught:
        warmup.run(servable, write(record(kind, signature_name="none")))
    assert str(caught.value) == message


def test_tasks_are_run(write: Any) -> None:
    log = prediction_log_pb2.PredictionLog()
    log.multi_inference_log.request.tasks.add().model_spec.name = "any"
    servable: Any = types.SimpleNamespace(name="m", signatures={})
    with pytest.raises(ServingError, match="signature not found in model graph: serving_default"):
        warmup.run(servable, write(log.SerializeToString()))
