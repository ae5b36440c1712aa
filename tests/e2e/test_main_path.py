"""Train, sign, publish, serve, classify: what was published is what answers."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from numpy.typing import NDArray
from PIL import Image

from deploy.runner import Server
from tests.conftest import Version
from tfserving_client import DigitClient, NotFound, Rejected, State


@pytest.fixture(scope="module")
def golden(published: Version) -> dict[str, NDArray[Any]]:
    with np.load(published.path / "assets.extra" / "golden.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(params=["gRPC", "REST"])
def digits(request: pytest.FixtureRequest, server: Server) -> Any:
    url = server.grpc_url if request.param == "gRPC" else server.rest_url
    with DigitClient(url) as digits:
        yield digits


def test_golden_digits_get_their_golden_answers(
    digits: DigitClient, golden: dict[str, NDArray[Any]]
) -> None:
    as_integers = digits.classify(golden["images"])
    as_floats = digits.classify(golden["images"] / np.float32(255))
    as_files = digits.classify([bytes(file) for file in golden["files"]])
    for answer, expected in (
        (as_integers, golden["probabilities"]),
        (as_floats, golden["probabilities"]),
        (as_files, golden["file_probabilities"]),
    ):
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
        assert np.array_equal(answer.digits, expected.argmax(axis=1))
    assert as_integers.version in {1, None}


def test_it_is_right_nearly_always(digits: DigitClient, golden: dict[str, NDArray[Any]]) -> None:
    assert np.mean(digits.classify(golden["images"]).digits == golden["labels"]) >= 0.95


def test_one_image_and_a_thousand(digits: DigitClient, golden: dict[str, NDArray[Any]]) -> None:
    assert len(digits.classify(golden["images"][0])) == 1
    many = np.tile(golden["images"], (10, 1, 1))
    answer = digits.classify(many)
    np.testing.assert_allclose(
        answer.probabilities, np.tile(golden["probabilities"], (10, 1)), atol=1e-5
    )


def test_a_photograph_from_disk(
    digits: DigitClient, golden: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """Dark ink, light paper, JPEG, 300 pixels: the graph brings it to what the model knows."""
    paths = []
    for i in range(0, 100, 10):
        ink = Image.fromarray(golden["images"][i]).resize((300, 300), Image.Resampling.BICUBIC)
        path = tmp_path / f"{golden['labels'][i]}.jpg"
        Image.fromarray(240 - (np.asarray(ink) * 0.8).astype(np.uint8)).save(path, quality=85)
        paths.append(path)
    right = digits.classify(paths).digits == golden["labels"][::10]
    assert right.sum() >= 9


def test_status_metadata_ready(digits: DigitClient) -> None:
    (status,) = digits.status()
    assert (status.version, status.state, status.error) == (1, State.AVAILABLE, "")
    assert digits.ready()
    assert digits.ready(version=1)
    assert not digits.ready(version=7)
    digits.wait_until_ready(version=1)
    metadata = digits.metadata()
    assert (metadata.model, metadata.version) == ("mnist", 1)
    named = {name for name in metadata.signatures if not name.startswith("__")}
    assert named == {"serving_default", "predict_images", "packed", "encoded", "classify"}
    images = metadata.signatures["serving_default"].inputs["images"]
    assert (images.dtype, images.shape) == ("DT_UINT8", (None, 28, 28))


def test_versions_labels_and_models_that_are_not_there(digits: DigitClient) -> None:
    image = np.zeros((28, 28), np.uint8)
    with pytest.raises(NotFound, match="version 7 of model 'mnist' is not loaded"):
        digits.classify(image, version=7)
    with pytest.raises(Rejected, match="no version of model 'mnist' has the label 'stable'"):
        digits.classify(image, label="stable")
    with DigitClient(digits.url, model="letters") as letters:
        with pytest.raises(NotFound, match="no version of model 'letters' is loaded"):
            letters.classify(image)
        with pytest.raises(NotFound, match="the server has no model 'letters'"):
            letters.status()


def test_a_broken_picture_is_refused_by_the_graph_with_its_place(digits: DigitClient) -> None:
    good = io.BytesIO()
    Image.new("L", (9, 9)).save(good, "PNG")
    wide = bytearray(good.getvalue())
    wide[16:20] = (4_097).to_bytes(4)
    cut = good.getvalue()[:-9]
    for broken, sentence in (
        (bytes(wide), "image 1 is 9 by 4097 pixels large; a side has at most 4096 (model"),
        (cut, "image 1: a PNG cut off (model"),
        (cut[:20], "image 1: a PNG cut off (model"),
    ):
        with pytest.raises(Rejected) as refusal:
            digits.classify([good.getvalue(), broken])
        assert str(refusal.value).startswith(sentence)
    answers = digits.classify_many([good.getvalue(), cut], return_exceptions=True)
    assert str(list(answers)[1]).startswith("item 1: image 0: a PNG cut off (model")


def test_the_command_line(server: Server, golden: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(bytes(golden["files"][30]))
    command = [sys.executable, "-m", "tfserving_client", "classify", str(path), "--json"]
    done = subprocess.run(
        [*command, f"--url={server.grpc_url}"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["digit"] == golden["file_probabilities"][30].argmax()
    assert answer["version"] == 1


def test_packed_images_over_rest(server: Server, golden: dict[str, NDArray[Any]]) -> None:
    packed = [{"b64": base64.b64encode(image.tobytes()).decode()} for image in golden["images"]]
    url = f"{server.rest_url}/v1/models/mnist:predict"

    def post(images: list[dict[str, str]]) -> urllib3.BaseHTTPResponse:
        return urllib3.request("POST", url, json={"signature_name": "packed", "inputs": images})

    outputs = post(packed).json()["outputs"]
    np.testing.assert_allclose(outputs["probabilities"], golden["probabilities"], atol=1e-5)
    assert outputs["digits"] == golden["probabilities"].argmax(1).tolist()
    refused = post([packed[0], {"b64": packed[1]["b64"][:-4]}])
    assert refused.status == 400
    assert "[image] [1] [has] [783] [bytes, not] [784]" in refused.json()["error"]
