"""Clients that were written for the real server, on the project's own model."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from deploy.runner import Server
from tests.client.installing import fetch, run
from tests.conftest import Version


@pytest.fixture(scope="module")
def golden(published: Version) -> dict[str, NDArray[Any]]:
    with np.load(published.path / "assets.extra" / "golden.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_tensorflow_servings_mnist_example(
    project: Server, golden: dict[str, NDArray[Any]]
) -> None:
    """As mnist_client.py: `predict_images`, an image a call, `scores` read as `.float_val`."""
    errors = 0
    with grpc.insecure_channel(project.grpc_url.removeprefix("grpc://")) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for image, label in zip(golden["images"], golden["labels"], strict=True):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "mnist"
            request.model_spec.signature_name = "predict_images"
            pixels = np.multiply(image.reshape(784).astype(np.float32), 1.0 / 255.0)
            request.inputs["images"].CopyFrom(
                tf.compat.v1.make_tensor_proto(pixels, shape=[1, pixels.size])
            )
            result = stub.Predict.future(request, 60.0).result()
            response = np.array(result.outputs["scores"].float_val)
            assert response.shape == (10,)
            errors += int(label != np.argmax(response))
    assert errors <= 5


# Prints what it was told as JSON. Without a version ovmsclient asks for version 0.
OVMSCLIENT = """
import json, sys
import numpy, ovmsclient
grpc_url, http_url, images = sys.argv[1:]
images = numpy.load(images)
told = {}
for name, make, url in (
    ("grpc", ovmsclient.make_grpc_client, grpc_url),
    ("http", ovmsclient.make_http_client, http_url),
):
    client = make(url)
    outputs = client.predict(inputs={"images": images}, model_name="mnist", model_version=1)
    told[name] = {
        "digits": outputs["digits"].tolist(),
        "probabilities": outputs["probabilities"].tolist(),
        "status": client.get_model_status(model_name="mnist", model_version=1),
        "metadata": client.get_model_metadata(model_name="mnist", model_version=1),
    }
    try:
        client.predict(inputs={"images": images}, model_name="mnist", model_version=7)
    except ovmsclient.ModelNotFoundError as error:
        told[name]["missing"] = str(error)
print(json.dumps(told, default=str))
"""


@pytest.fixture(scope="session")
def ovmsclient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ovmsclient alone; what it needs is in this environment."""
    folder = tmp_path_factory.mktemp("ovmsclient") / "packages"
    fetch(folder, "--no-deps", "ovmsclient==2023.1")
    return folder


def test_ovmsclient(
    ovmsclient: Path, project: Server, golden: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    images, probabilities = golden["images"][:8], golden["probabilities"][:8]
    np.save(tmp_path / "images.npy", images)
    addresses = (url.partition("://")[2] for url in (project.grpc_url, project.rest_url))
    command = [sys.executable, "-c", OVMSCLIENT, *addresses, "images.npy"]
    done = run(*command, cwd=tmp_path, PYTHONPATH=str(ovmsclient))
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for told in answers.values():
        np.testing.assert_allclose(told["probabilities"], probabilities, atol=1e-5)
        assert told["digits"] == probabilities.argmax(1).tolist()
        assert told["status"]["1"]["state"] == "AVAILABLE"
        assert "Specific(mnist, 7)" in told["missing"]
    metadata = answers["grpc"]["metadata"]
    assert metadata["inputs"] == {"images": {"shape": [-1, 28, 28], "dtype": "DT_UINT8"}}
    assert metadata["model_version"] == 1
    # It reads metadata over REST as OpenVINO's server words it, and hands on any other as it is.
    assert answers["http"]["metadata"]["model_spec"]["version"] == "1"


# As the documentation of TensorFlow Serving's REST API has them.


@pytest.fixture
def curl(project: Server, tmp_path: Path) -> Any:
    """Runs curl on a path under /v1/models/mnist; status and body."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def curl(path: str, *options: str, data: Any = None) -> tuple[int, Any]:
        command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", *options]
        if data is not None:
            (tmp_path / "data").write_text(json.dumps(data))
            command += ["-d", f"@{tmp_path / 'data'}"]
        command.append(f"{project.rest_url}/v1/models/mnist{path}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    return curl


def test_curl_gets_status_and_metadata(curl: Any) -> None:
    ok = {"error_code": "OK", "error_message": ""}
    status = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]}
    assert curl("") == curl("/versions/1") == (200, status)
    found, answer = curl("/metadata")
    assert (found, answer["model_spec"]["version"]) == (200, "1")
    missing = {"error": "Could not find version 7 of model mnist"}
    assert curl("/versions/7") == (404, missing)


def test_curl_posts_rows_columns_and_files(curl: Any, golden: dict[str, NDArray[Any]]) -> None:
    images = golden["images"][:2].tolist()
    digits = golden["probabilities"][:2].argmax(1).tolist()
    status, answer = curl(":predict", "-X", "POST", data={"instances": images})
    assert (status, [row["digits"] for row in answer["predictions"]]) == (200, digits)
    status, answer = curl("/versions/1:predict", data={"inputs": {"images": images}})
    assert (status, answer["outputs"]["digits"]) == (200, digits)
    files = [{"b64": base64.b64encode(bytes(f)).decode()} for f in golden["files"][:2]]
    body = {"signature_name": "encoded", "instances": [{"image_bytes": file} for file in files]}
    status, answer = curl(":predict", "-H", "Content-Type: application/json", data=body)
    digits = golden["file_probabilities"][:2].argmax(1).tolist()
    assert (status, [row["digits"] for row in answer["predictions"]]) == (200, digits)


def test_curl_sends_a_large_body_and_a_compressed_one(
    curl: Any, golden: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """Beyond a kilobyte curl asks with `Expect: 100-continue` before it sends."""
    body = {"instances": golden["images"].tolist()}
    status, answer = curl(":predict", data=body)
    assert (status, len(answer["predictions"])) == (200, len(golden["images"]))
    path = tmp_path / "body.gz"
    path.write_bytes(gzip.compress(json.dumps(body).encode()))
    options = ("-H", "Content-Encoding: gzip", "--data-binary", f"@{path}")
    assert curl(":predict", *options) == (status, answer)


def test_curl_is_told_what_is_wrong(curl: Any) -> None:
    assert curl(":predict", data={"instances": []})[0] == 400
    assert curl(":predict", "-X", "PUT", data={}) == (
        400,
        {"error": "Malformed request: PUT /v1/models/mnist:predict"},
    )
