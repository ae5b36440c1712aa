"""Errors that quote bytes which are no UTF-8, wherever such a text comes out."""

import base64
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from deploy.local.errors import Code, ServingError
from deploy.local.models import servable
from tests.deploy.local.conftest import DEADLINE
from tests.deploy.local.test_main import publish

ODD = b"r\xe9sum\xe9"
NO_NUMBER = b"StringToNumberOp could not correctly convert string: " + ODD


@pytest.fixture(scope="module", params=["false", "true"], ids=["alone", "batched"])
def quoting(
    request: Any, models: Path, start_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server of `quotes`, without and with batching."""
    folder = tmp_path_factory.mktemp("quotes")
    shutil.copytree(models / "quotes" / "1", folder / "quotes" / "1")
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    server = start_server(
        model_name="quotes",
        model_base_path=folder / "quotes",
        monitoring_config_file=monitoring,
        enable_batching=request.param,
    )
    return server.wait_ready(), folder / "quotes"


def refused(server: Any, signature: str, **inputs: Any) -> tuple[str, str]:
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "quotes", signature
    for alias, value in inputs.items():
        asked.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(grpc.RpcError) as caught:
        server.prediction.Predict(asked, timeout=DEADLINE)
    return caught.value.code().name, caught.value.details()


def test_rest_sends_the_bytes_as_they_are(quoting: Any) -> None:
    server, _ = quoting
    body = f'{{"inputs": [{{"b64": "{base64.b64encode(ODD).decode()}"}}]}}'
    status, kind, text = server.rest("POST", "/v1/models/quotes:predict", body)
    assert (status, kind) == (400, "application/json")
    answer = text.encode(errors="surrogateescape")
    assert answer.startswith(b'{\n    "error": "' + NO_NUMBER)


def test_grpc_sends_the_bytes_as_they_are(quoting: Any) -> None:
    server, _ = quoting
    code, details = refused(server, "", text=[ODD])
    assert code == "INVALID_ARGUMENT"
    assert details.startswith(NO_NUMBER.decode("latin-1"))  # as grpcio shows what is no UTF-8


def test_a_version_that_fails_in_such_words_is_told_of_and_counted(
    quoting: Any, models: Path, until: Any
) -> None:
    server, base = quoting
    publish(with_an_odd_record(models, base.parent / "2"), base / "2")
    until(lambda: server.states("quotes").get(2) == "END", "the failure")
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "quotes"
    (failed, _) = server.model.GetModelStatus(asked, timeout=DEADLINE).model_version_status
    words = "Failed to parse warmup record: \x7fr\ufffdsum\ufffd from"
    assert words in failed.status.error_message
    status, _, text = server.rest("GET", "/v1/models/quotes")
    assert (status, "r\ufffdsum\ufffd" in text) == (200, True)
    status, _, text = server.rest("GET", "/monitoring/prometheus/metrics")
    assert (status, "r\ufffdsum\ufffd" in text) == (200, True)


def with_an_odd_record(models: Path, folder: Path) -> Path:
    """A version with a warm-up record that cannot be read."""
    shutil.copytree(models / "quotes" / "1", folder)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"\x7f" + ODD)
    return folder


def test_a_start_that_fails_in_such_words_says_them(
    models: Path, start_server: Any, tmp_path: Path
) -> None:
    with_an_odd_record(models, tmp_path / "1")
    server = start_server(model_name="quotes", model_base_path=tmp_path)
    assert server.process.wait(DEADLINE) == 255
    assert b"\x7f" + ODD in server.log.read_bytes()


def test_a_file_of_such_a_name_is_not_found(models: Path) -> None:
    loaded = servable.load("quotes", 1, models / "quotes" / "1")
    path = np.array(b"/nowhere/" + ODD, object)
    with pytest.raises(ServingError) as caught:
        loaded.run({"path:0": path}, [loaded.signatures["file"].outputs["content"].name])
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.message.encode(errors="surrogateescape").startswith(path.item())
    loaded.close()
