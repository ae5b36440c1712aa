"""What the gateway tells of answers, of the real model's by every way to ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runner import Server, serve
from tests.conftest import Version
from tests.deploy.conftest import ROOT
from tests.deploy.gateway import Gateway, running, until
from tfserving_client import CallError, DigitClient, ServingClient

START = ROOT / "deploy" / "gateway" / "start.sh"
(MODULE,) = re.findall(r"^javascript=(\S+)", START.read_text(), re.M)
ROWS = 100  # of one answer that are told

with_javascript = pytest.mark.skipif(
    not Path(MODULE).exists(), reason="nginx's JavaScript module is not installed"
)


@pytest.fixture(scope="module")
def server(published: Version) -> Iterator[Server]:
    with serve(published.path.parent) as server:
        yield server


def _ports(server: Server) -> tuple[int, int]:
    grpc_port, rest_port = (
        int(url.rpartition(":")[2]) for url in (server.grpc_url, server.rest_url)
    )
    return grpc_port, rest_port


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Looks at every answer."""
    every = {"10% yes": "100% yes"}
    folder = tmp_path_factory.mktemp("answers")
    with running(folder, ["127.0.0.1"], _ports(server), changes=every) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def golden(published: Version) -> Any:
    with np.load(published.path / "assets.extra" / "golden.npz") as found:
        return {name: found[name] for name in ("images", "probabilities")}


def _lines(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]


def _next(gateway: Gateway, before: int) -> str:
    """The answers of the request since, and of those that prepared it."""
    until(lambda: len(_lines(gateway)) > before)
    return "".join(line["answers"] for line in _lines(gateway)[before:])


def _expected(probabilities: Any) -> list[tuple[int, float]]:
    return [(int(row.argmax()), float(row.max())) for row in probabilities[:ROWS]]


def _told(text: str) -> list[tuple[int, float]]:
    rows = [row.split(":") for row in text.split()]
    return [(int(digit), float(confidence)) for digit, confidence in rows]


@with_javascript
@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("rows", [1, 3, ROWS + 1])
def test_digits_and_how_sure_they_are(
    scheme: str, rows: int, gateway: Gateway, golden: Any
) -> None:
    images, probabilities = (np.resize(each, (rows, *each.shape[1:])) for each in golden.values())
    before = len(_lines(gateway))
    with DigitClient(_url(gateway, scheme)) as digits:
        answer = digits.classify(images)
    np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
    told = _told(_next(gateway, before))
    assert [digit for digit, _ in told] == [digit for digit, _ in _expected(probabilities)]
    line = _lines(gateway)[-1]
    assert (line["model"], line["answering"]) == (
        ("", "mnist") if scheme == "grpc" else ("mnist", "")
    )
    confidences = [confidence for _, confidence in _expected(probabilities)]
    np.testing.assert_allclose([confidence for _, confidence in told], confidences, atol=6e-4)


def _url(gateway: Gateway, scheme: str) -> str:
    port = gateway.grpc_port if scheme == "grpc" else gateway.rest_port
    return f"{scheme}://127.0.0.1:{port}"


@with_javascript
@pytest.mark.parametrize(
    "body",
    [
        {"instances": "ROWS"},
        {"inputs": "ROWS"},
        {"instances": "FLAT", "signature_name": "predict_images"},
        {"inputs": "FLAT", "signature_name": "predict_images"},
    ],
)
def test_every_form_of_a_rest_answer(body: dict[str, Any], gateway: Gateway, golden: Any) -> None:
    images = golden["images"][:3]
    forms = {"ROWS": images.tolist(), "FLAT": (images.reshape(3, 784) / 255).tolist()}
    filled = {name: forms.get(value, value) for name, value in body.items()}
    before = len(_lines(gateway))
    asked = gateway.ask("POST", "/v1/models/mnist:predict", json.dumps(filled).encode(), local=True)
    assert asked.status == 200
    told = [digit for digit, _ in _told(_next(gateway, before))]
    assert told == [digit for digit, _ in _expected(golden["probabilities"][:3])]


@with_javascript
def test_what_is_no_prediction_has_no_answers_and_passes_as_it_is(gateway: Gateway) -> None:
    for scheme in ("grpc", "http"):
        with ServingClient(_url(gateway, scheme), model="mnist") as serving:
            for verb in (serving.status, serving.metadata):
                before = len(_lines(gateway))
                assert verb()
                assert _next(gateway, before) == ""
        with DigitClient(_url(gateway, scheme), model="nosuch") as nobody:
            before = len(_lines(gateway))
            with pytest.raises(CallError, match="nosuch"):
                nobody.classify(np.zeros((28, 28), np.uint8))
            assert _next(gateway, before) == ""
    assert "js:" not in gateway.log


def test_an_nginx_without_javascript_serves_all_the_same(
    server: Server, tmp_path: Path, golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tmp_path / "start.sh"
    without.write_text(START.read_text().replace(MODULE, "/nowhere/module.so"))
    without.chmod(0o755)
    folder = tmp_path / "gateway"
    folder.mkdir()
    monkeypatch.setattr("tests.deploy.gateway.START", without)
    with running(folder, ["127.0.0.1"], _ports(server)) as gateway:
        for scheme in ("grpc", "http"):
            before = len(_lines(gateway))
            with DigitClient(_url(gateway, scheme)) as digits:
                assert len(digits.classify(golden["images"][:2])) == 2
            assert _next(gateway, before) == ""
