"""Tiny SavedModels and real server processes for the tests of deploy.local."""

import contextlib
import dataclasses
import http.client
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from deploy.runner import free_ports
from tests.forks import Fork

v1 = tf.compat.v1
DEADLINE = 180  # seconds; on a busy machine TensorFlow's import alone takes a minute


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value; fails after a generous time."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {DEADLINE} s for {what}")


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], Any], str], Any]:
    return wait_until


# Models


def _signature(
    inputs: dict[str, Any], outputs: dict[str, Any], defaults: dict[str, Any] | None = None
) -> meta_graph_pb2.SignatureDef:
    made = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for alias, tensor in inputs.items():
        made.inputs[alias].CopyFrom(v1.saved_model.build_tensor_info(tensor))
    for alias, tensor in outputs.items():
        made.outputs[alias].CopyFrom(v1.saved_model.build_tensor_info(tensor))
    for alias, value in (defaults or {}).items():
        made.defaults[alias].CopyFrom(tf.make_tensor_proto(value))
    return made


def _save(folder: Path, build: Callable[[], dict[str, Any]]) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = build()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


def _line(offset: float) -> Callable[[], dict[str, Any]]:
    """y = x / 2 + offset."""

    def build() -> dict[str, Any]:
        x = v1.placeholder(tf.float32, [None], name="x")
        slope = v1.get_variable("slope", initializer=np.float32(0.5), use_resource=True)
        shift = v1.get_variable("shift", initializer=np.float32(offset), use_resource=True)
        return {"serving_default": _signature({"x": x}, {"y": tf.add(x * slope, shift, name="y")})}

    return build


def _shapes() -> dict[str, Any]:
    """Two inputs and outputs, defaults, strings, and outputs that are not rows."""
    a = v1.placeholder(tf.float32, [None], name="a")
    b = v1.placeholder(tf.int32, [None], name="b")
    scale = v1.placeholder(tf.float32, [], name="scale")
    text = v1.placeholder(tf.string, None, name="text")
    total = tf.add(a, tf.cast(b, tf.float32), name="total")
    return {
        "serving_default": _signature({"a": a, "b": b}, {"sum": total, "b": tf.identity(b)}),
        "scaled": _signature(
            {"a": a, "scale": scale}, {"y": tf.multiply(a, scale)}, {"scale": np.float32(3)}
        ),
        "text": _signature({"text": text}, {"copy": tf.identity(text)}),
        "bytes": _signature({"text": text}, {"copy_bytes": tf.identity(text)}),
        "scalar": _signature({"a": a}, {"total": tf.reduce_sum(a)}),
        "half": _signature({"a": a}, {"half": tf.cast(a, tf.float16)}),
    }


def _wait() -> dict[str, Any]:
    """Writes `<path>.here`, then runs until `path` exists: a request as long as a test likes."""
    path = v1.placeholder(tf.string, [], name="path")
    with tf.control_dependencies([tf.io.write_file(path + ".here", "")]):
        start = tf.constant(0)

    def absent(_rounds: Any) -> Any:
        return tf.equal(tf.size(tf.io.matching_files(path)), 0)

    (rounds,) = v1.while_loop(
        absent, lambda rounds: rounds + 1, [start], return_same_structure=True
    )
    return {"serving_default": _signature({"path": path}, {"done": tf.greater_equal(rounds, 0)})}


def _quotes() -> dict[str, Any]:
    """Fails in words that quote what was given: text that is no number, files that are missing."""
    text = v1.placeholder(tf.string, [None], name="text")
    path = v1.placeholder(tf.string, [], name="path")
    return {
        "serving_default": _signature({"text": text}, {"y": tf.strings.to_number(text)}),
        "file": _signature({"path": path}, {"content": tf.io.read_file(path)}),
    }


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base paths: line (versions 1, 2, 3), shapes (1), wait (1), quotes (1)."""
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2, 3):
        _save(root / "line" / str(version), _line(version + 1))
    _save(root / "shapes" / "1", _shapes)
    _save(root / "wait" / "1", _wait)
    _save(root / "quotes" / "1", _quotes)
    return root


# Servers


@dataclasses.dataclass
class Server:
    """A server process and its two ports."""

    process: Fork
    port: int
    rest_port: int
    log: Path

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def accepts(self) -> bool:
        """Whether both ports are open."""
        for port in (self.port, self.rest_port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    def wait_ready(self) -> "Server":
        wait_until(lambda: self.accepts() or self.process.poll() is not None, "ports to open")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def rest(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str | None, str]:
        """Status, Content-Type and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="surrogateescape")
            return answer.status, answer.getheader("Content-Type"), text

    def predict(self, name: str, **inputs: Any) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
        return self.prediction.Predict(request, timeout=DEADLINE)

    def states(self, name: str) -> dict[int, str]:
        """Version to state name; nothing while no version of the model is known."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            answer = self.model.GetModelStatus(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return {}
        names = get_model_status_pb2.ModelVersionStatus.State
        return {row.version: names.Name(row.state) for row in answer.model_version_status}

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Server]]:
    """Starts a server with the given flags; it is killed at the end if it still runs."""
    servers: list[Server] = []

    def start(*arguments: str, **flags: Any) -> Server:
        port, rest_port = free_ports(2)
        log = tmp_path_factory.mktemp("server") / "log"
        given = {"port": port, "rest_api_port": rest_port, "max_num_load_retries": 0, **flags}
        command = [*arguments, *(f"--{name}={value}" for name, value in given.items())]
        process = Fork("deploy.local", command, log, CUDA_VISIBLE_DEVICES="-1")
        servers.append(Server(process, port, rest_port, log))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def server(
    models: Path, start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """One server for all tests that only ask: line (all versions, label stable is 1), shapes."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(
        f"""model_config_list {{
          config {{ name: "line" base_path: "{models}/line" model_platform: "tensorflow"
                    model_version_policy {{ all {{}} }}
                    version_labels {{ key: "stable" value: 1 }} }}
          config {{ name: "shapes" base_path: "{models}/shapes" model_platform: "tensorflow" }}
        }}"""
    )
    monitoring = config.with_name("monitoring.config")
    monitoring.write_text("prometheus_config { enable: true }")
    server = start_server(
        model_config_file=config,
        allow_version_labels_for_unavailable_models="true",
        monitoring_config_file=monitoring,
    ).wait_ready()
    everything = dict.fromkeys((1, 2, 3), "AVAILABLE")  # its ports open with the first
    wait_until(lambda: server.states("line") == everything, "all versions")
    return server
