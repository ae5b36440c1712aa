from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow_serving.apis import predict_pb2

from client.__main__ import main
from tests.client.conftest import ScriptedGrpc, ScriptedHttp

PNG = b"\x89PNG\r\n\x1a\n and the rest"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "seven.png"
    path.write_bytes(PNG)
    return str(path)


def _answer_seven(server: ScriptedHttp) -> None:
    row = [0.002] * 10
    row[7] = 0.982
    server.body = json.dumps({"outputs": {"probabilities": [row], "digits": [7]}}).encode()


def test_classify_for_people(
    http_server: ScriptedHttp, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _answer_seven(http_server)
    assert main(["classify", file, "--url", http_server.url]) == 0
    line = capsys.readouterr().out
    assert line.startswith("7   98.2% ███████████████████")
    assert line.endswith("seven.png\n")


def test_classify_for_machines(
    http_server: ScriptedHttp,
    file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answer_seven(http_server)
    monkeypatch.setenv("DIGITS_URL", http_server.url)
    assert main(["classify", file, "--json", "--version=3"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["file"], line["digit"], line["version"]) == (file, 7, 3)
    assert line["probabilities"][7] == 0.982


def test_status_and_wait(grpc_server: ScriptedGrpc, capsys: pytest.CaptureFixture[str]) -> None:
    # The same fields as GetModelStatusResponse {version: 5 state: AVAILABLE}.
    grpc_server.behaviour = lambda *_: b"\x0a\x04\x08\x05\x10\x1e"
    assert main(["status", "--url", grpc_server.url]) == 0
    assert main(["wait", "--url", grpc_server.url]) == 0
    out = capsys.readouterr().out
    assert out == f"mnist 5  AVAILABLE\nmnist at {grpc_server.url} is ready\n"


def test_a_failed_call_is_one_line_and_status_1(
    closed_port: int, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", file, "--url", f"grpc://127.0.0.1:{closed_port}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"127.0.0.1:{closed_port}" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify", "no-such-file.png"], "'no-such-file.png' cannot be read"),
        (["classify", __file__], "no PNG or JPEG"),
        (["status", "--url", "nonsense"], "'nonsense'"),
        (["status", "--timeout=-1"], "-1.0"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_an_answer_that_cannot_be_written_is_one_line_and_status_1(
    http_server: ScriptedHttp, file: str
) -> None:
    _answer_seven(http_server)
    command = [sys.executable, "-m", "client", "classify", file, "--url", http_server.url]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "python -m client: the answer cannot be written: No space left on device\n"
    )


def test_a_terminal_without_blocks_gets_the_answer_all_the_same(
    http_server: ScriptedHttp, file: str
) -> None:
    _answer_seven(http_server)
    command = [sys.executable, "-m", "client", "classify", file, "--url", http_server.url]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("7   98.2% ????")


def test_files_are_sent_as_they_are(grpc_server: ScriptedGrpc, file: str) -> None:
    main(["classify", file, file, "--url", grpc_server.url])
    ((_, body),) = grpc_server.calls
    request = predict_pb2.PredictRequest.FromString(body)
    assert request.model_spec.signature_name == "encoded"
    assert list(request.inputs["image_bytes"].string_val) == [PNG, PNG]
