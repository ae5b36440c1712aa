from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import ScriptedHttp
from tfserving_client.command.main import main

HOUSES = {"rooms": [3, 4], "city": ["Graz", {"b64": "/w=="}]}


def _spec(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": "-1"}], "unknown_rank": False}}


@pytest.fixture
def prices(http_server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> ScriptedHttp:
    """A server of a model that always gives the same prices, by the signature `fast`."""
    definition = {
        "inputs": {"rooms": _spec("DT_INT64"), "city": _spec("DT_STRING")},
        "outputs": {"price": _spec("DT_FLOAT"), "note_bytes": _spec("DT_STRING")},
    }
    metadata = {
        "model_spec": {"name": "price", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"fast": definition}}},
    }
    outputs = {"price": [1.5, float("nan")], "note_bytes": [{"b64": "YQ=="}, {"b64": "/w=="}]}

    def behave(asked: str, _: bytes) -> tuple[int, bytes]:
        answer: Any = metadata if asked.endswith("/metadata") else {"outputs": outputs}
        return 200, json.dumps(answer).encode()

    http_server.behaviour = behave
    monkeypatch.setenv("DIGITS_URL", http_server.url)
    return http_server


def _predict(*more: str) -> int:
    return main(["predict", "--model=price", "--signature=fast", *more])


def _sent(server: ScriptedHttp) -> Any:
    return json.loads(server.calls[-1][2])


def test_inputs_in_json_for_people(
    prices: ScriptedHttp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "houses.json"
    file.write_text(json.dumps(HOUSES))
    assert _predict(f"--inputs={file}") == 0
    assert capsys.readouterr().out.splitlines() == [
        "note_bytes: string [2]", "[b'a' b'\\xff']", "price: float32 [2]", "[1.5 nan]",
    ]  # fmt: skip
    assert _sent(prices) == {
        "signature_name": "fast",
        "inputs": {"rooms": [3, 4], "city": [{"b64": "R3Jheg=="}, {"b64": "/w=="}]},
    }


def test_inputs_as_arrays_for_machines(
    prices: ScriptedHttp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "houses.npz"
    np.savez(file, rooms=np.array([3, 4], np.uint8), city=np.array(["a", "b"]))
    assert _predict(f"--inputs={file}", "--json", "--version=1") == 0
    assert capsys.readouterr().out == (
        '{"outputs": {"note_bytes": ["a", {"b64": "/w=="}], "price": [1.5, NaN]}, "version": 1}\n'
    )
    assert _sent(prices)["inputs"]["rooms"] == [3, 4]


def test_inputs_from_standard_input(prices: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(json.dumps(HOUSES).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    assert _predict("--inputs=-") == 0
    assert len(prices.calls) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no", "houses' is neither JSON nor .npz: Expecting value"),
        (b"", "houses' is neither JSON nor .npz: Expecting value"),
        (b"\xff", "houses' is neither JSON nor .npz: "),
        (b"PK\3\4 and no more", "houses' is neither JSON nor .npz: "),
        (b'{"rooms": {"b64": "?"}}', "houses' is neither JSON nor .npz: "),
        (
            b'{"rooms": [3.5], "city": ["a"]}',
            "input 'rooms' holds floats; the model takes DT_INT64",
        ),
        (None, "houses' cannot be read: No such file or directory"),
    ],
)
@pytest.mark.usefixtures("prices")
def test_what_is_no_input_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    file = tmp_path / "houses"
    if content is not None:
        file.write_bytes(content)
    assert _predict(f"--inputs={file}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m tfserving_client: ")
    assert words in line


def test_the_server_cannot_list_its_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 2
    words = capsys.readouterr().err
    assert "does not say which models it serves. `status --model NAME` shows one" in words
