from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import grpc
import numpy as np
import pytest
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tests.client.conftest import ScriptedGrpc, ScriptedHttp
from tfserving_client.command.main import main

PNG = b"\x89PNG\r\n\x1a\n and the rest"
BROKEN = b"\x89PNG\r\n\x1a\n and no more"
AVAILABLE = b"\x0a\x04\x08\x05\x10\x1e"  # GetModelStatusResponse {version: 5 state: AVAILABLE}
LOADING = b"\x0a\x04\x08\x05\x10\x14"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "seven.png"
    path.write_bytes(PNG)
    return str(path)


def _answer_seven(server: ScriptedHttp) -> None:
    row = [0.002] * 10
    row[7] = 0.982
    _answer(server, row, 7)


def _answer(server: ScriptedHttp, row: list[float], digit: int) -> None:
    server.body = json.dumps({"outputs": {"probabilities": [row], "digits": [digit]}}).encode()


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
    assert line["blank"] is False


def test_a_blank_picture_is_told_as_blank(
    http_server: ScriptedHttp, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _answer(http_server, [0.1] * 10, 0)
    assert main(["classify", file, "--url", http_server.url]) == 0
    assert capsys.readouterr().out.split() == ["blank", file]
    assert main(["classify", file, "--url", http_server.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blank"] is True


def test_status_and_wait(grpc_server: ScriptedGrpc, capsys: pytest.CaptureFixture[str]) -> None:
    grpc_server.behaviour = lambda *_: AVAILABLE
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
    command = [sys.executable, "-m", "tfserving_client", "classify", file, "--url", http_server.url]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    reason = "the answer cannot be written: No space left on device"
    assert done.stderr == f"python -m tfserving_client: {reason}\n"


def test_a_terminal_without_blocks_gets_the_answer_all_the_same(
    http_server: ScriptedHttp, file: str
) -> None:
    _answer_seven(http_server)
    command = [sys.executable, "-m", "tfserving_client", "classify", file, "--url", http_server.url]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("7   98.2% ????")


def test_files_are_sent_as_they_are(grpc_server: ScriptedGrpc, file: str) -> None:
    main(["classify", file, file, "--url", grpc_server.url])
    ((_, body),) = grpc_server.calls
    request = predict_pb2.PredictRequest.FromString(body)
    assert request.model_spec.signature_name == "encoded"
    assert list(request.inputs["image_bytes"].string_val) == [PNG, PNG]


def _sevens(_: str, body: bytes, context: grpc.ServicerContext) -> bytes:
    """Every image is a seven, unless one is broken: then the server refuses them all."""
    request = predict_pb2.PredictRequest.FromString(body)
    (images,) = request.inputs.values()
    if BROKEN in images.string_val:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot be decoded")
    shape = images.tensor_shape.dim
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 5
    rows = np.tile(np.eye(10, dtype=np.float32)[7], (shape[0].size, 1))
    tensor = tensor_pb2.TensorProto(dtype=1, tensor_content=rows.tobytes())
    for size in rows.shape:
        tensor.tensor_shape.dim.add(size=size)
    response.outputs["probabilities"].CopyFrom(tensor)
    return bytes(response.SerializeToString())


@pytest.fixture
def sevens(grpc_server: ScriptedGrpc, monkeypatch: pytest.MonkeyPatch) -> ScriptedGrpc:
    grpc_server.behaviour = _sevens
    monkeypatch.setenv("DIGITS_URL", grpc_server.url)
    return grpc_server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with pictures and something else."""
    monkeypatch.chdir(tmp_path)
    pictures = ("d/10.png", "d/9.PNG", "d/deep/1.jpeg", "d/[1].png", "e/1.png")
    for name in (*pictures, "d/notes.txt", "d/._9.PNG", "d/.thumbnails/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    return tmp_path


def _files(out: str) -> list[str]:
    return [json.loads(line)["file"] for line in out.splitlines()]


@pytest.mark.usefixtures("sevens", "folder")
@pytest.mark.parametrize(
    ("argument", "files"),
    [
        ("d", ["d/9.PNG", "d/10.png", "d/[1].png", "d/deep/1.jpeg"]),
        ("d/*.png", ["d/10.png", "d/[1].png"]),
        ("**/1*", ["d/10.png", "d/deep/1.jpeg", "e/1.png"]),
        ("d/[1].png", ["d/[1].png"]),
    ],
)
def test_folders_and_globs(
    argument: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "--json", argument]) == 0
    assert _files(capsys.readouterr().out) == files


def _input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_may_be_a_picture(
    sevens: ScriptedGrpc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _input(monkeypatch, PNG)
    assert main(["classify", "--json", "-"]) == 0
    assert _files(capsys.readouterr().out) == ["-"]
    request = predict_pb2.PredictRequest.FromString(sevens.calls[0][1])
    assert list(request.inputs["image_bytes"].string_val) == [PNG]


@pytest.mark.usefixtures("sevens", "folder")
def test_standard_input_may_be_a_list_of_paths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a").write_bytes(PNG)
    _input(monkeypatch, b"a\n\nd/10.png\r\nd/9.PNG")
    assert main(["classify", "--json", "-", "e/1.png"]) == 0
    assert _files(capsys.readouterr().out) == ["a", "d/10.png", "d/9.PNG", "e/1.png"]


def test_an_empty_list_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _input(monkeypatch, b"")
    assert main(["classify", "-"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("sevens", "folder")
def test_a_bad_picture_costs_only_itself(capsys: pytest.CaptureFixture[str]) -> None:
    Path("e/2.png").write_bytes(BROKEN)
    Path("e/3.png").write_text("no picture")
    Path("e/4.png").write_bytes(PNG)
    assert main(["classify", "e"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()] == ["e/1.png", "e/4.png"]
    first, second = err.splitlines()
    assert "e/2.png" in first
    assert "cannot be decoded" in first
    assert "'e/3.png' is no PNG" in second


@pytest.mark.usefixtures("sevens", "folder")
def test_a_program_is_told_of_a_bad_picture_in_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["classify", "--json", "d/10.png", "missing.png", "e/1.png"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("digit") for line in lines] == [7, None, 7]
    assert lines[1]["file"] == "missing.png"
    assert "cannot be read" in lines[1]["error"]


@pytest.mark.usefixtures("folder")
def test_every_picture_refused_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("d/notes.txt").write_text("no picture")
    assert main(["classify", "empty", "d/notes.txt", "nothing/*.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for line, name in zip(err.splitlines(), ("empty", "notes.txt", "nothing/*"), strict=True):
        assert name in line


@pytest.mark.usefixtures("folder")
def test_a_server_that_is_gone_is_told_once_not_per_picture(
    closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "d", f"--url=http://127.0.0.1:{closed_port}"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert f"127.0.0.1:{closed_port}" in first
    assert "3 more failed" in second


@pytest.mark.usefixtures("sevens")
def test_drawings_are_for_terminals_or_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (40, 40), 0).save(tmp_path / "black.png")
    black = str(tmp_path / "black.png")
    assert main(["classify", black]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["classify", black, "--draw"]) == 0
    drawn = capsys.readouterr().out.splitlines()
    assert len(drawn) == 11
    assert drawn[8].endswith("7 ████████████████████ 100.0%")
    status, output = _in_a_terminal(["classify", black], patience=600)
    assert (status, output.splitlines()) == (0, drawn)
    status, output = _in_a_terminal(["classify", *[black] * 5], patience=600)
    assert len(output.splitlines()) == 5


def _in_a_terminal(
    arguments: list[str],
    seen: Callable[[str], None] = lambda _: None,
    *,
    patience: float = 0.1,
) -> tuple[int, str]:
    """Run the command with a terminal for all its output; `seen` is told what came so far.

    `patience` is after how many seconds progress is shown, which may be more than any test takes.
    """
    ours, its = pty.openpty()
    script = (
        "import runpy; from tfserving_client.command import progress; "
        f"progress._PATIENCE = {patience}; "
        "runpy.run_module('tfserving_client', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, *arguments]
    root = Path(__file__).parents[2]  # wherever the test is
    with subprocess.Popen(command, stdout=its, stderr=its, cwd=root) as process:
        os.close(its)
        output = b""
        try:
            while piece := os.read(ours, 1 << 16):
                output += piece
                seen(output.decode(errors="replace"))
        except OSError:  # so Linux says that nobody has the terminal open any more
            pass
    os.close(ours)
    return process.returncode, output.decode()


@pytest.mark.usefixtures("sevens")
def test_many_pictures_in_a_terminal_show_their_progress(file: str) -> None:
    status, output = _in_a_terminal(["classify", *[file] * 101])
    assert status == 0
    assert "0 of 101 pictures" in output
    assert "101 of 101 pictures" in output.splitlines()[-1]
    shown = [line for line in output.splitlines() if line.endswith("seven.png")]
    assert len(shown) == 101
    status, output = _in_a_terminal(["classify", *[file] * 99], patience=600)
    assert len(output.splitlines()) == 99


def test_a_wait_in_a_terminal_shows_its_progress(grpc_server: ScriptedGrpc) -> None:
    shown = threading.Event()
    grpc_server.behaviour = lambda *_: AVAILABLE if shown.is_set() else LOADING

    def look(output: str) -> None:
        if "of 60 s" in output:
            shown.set()

    status, output = _in_a_terminal(["wait", "--url", grpc_server.url], look)
    assert status == 0
    assert output.endswith(f"mnist at {grpc_server.url} is ready\r\n")


def test_ctrl_c_during_a_call_is_status_130_without_a_word(grpc_server: ScriptedGrpc) -> None:
    command = [sys.executable, "-m", "tfserving_client", "wait", "--url", grpc_server.url]
    asked = threading.Event()

    def behaviour(*_: object) -> bytes:
        asked.set()
        return LOADING

    grpc_server.behaviour = behaviour
    with subprocess.Popen(command, stdout=-1, stderr=-1) as process:
        asked.wait()
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
    assert process.returncode == 130


def test_ctrl_c_waits_for_no_answer(grpc_server: ScriptedGrpc, file: str) -> None:
    command = [sys.executable, "-m", "tfserving_client", "classify", file, "--url", grpc_server.url]
    asked, gone = threading.Event(), threading.Event()
    was_let_go: list[bool] = []

    def behaviour(*_: object) -> bytes:
        asked.set()
        was_let_go.append(gone.wait(30))
        return LOADING

    grpc_server.behaviour = behaviour
    with subprocess.Popen([*command, "--timeout=60"], stdout=-1, stderr=-1) as process:
        asked.wait()
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
        gone.set()
    assert process.returncode == 130
    assert all(was_let_go)


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets code run in place of numpy's import."""

    def trap(code: str) -> None:
        (tmp_path / "numpy").mkdir()
        (tmp_path / "numpy" / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return trap


def test_ctrl_c_while_numpy_loads_is_status_130_without_a_word(
    traps: Callable[[str], None],
) -> None:
    traps("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nassert False")
    command = [sys.executable, "-m", "tfserving_client", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("arguments", [[], ["classify"], ["bench"]])
def test_help_has_examples_and_waits_for_no_library(
    arguments: list[str], traps: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    traps("raise SystemExit('numpy is imported')")
    monkeypatch.setenv("DIGITS_API_KEY", "s3cret")
    command = [sys.executable, "-m", "tfserving_client", *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("python -m tfserving_client ") >= 4
    assert "s3cret" not in done.stdout


@pytest.mark.usefixtures("sevens")
def test_a_reader_that_has_seen_enough_is_no_error_in_words(file: str) -> None:
    command = [sys.executable, "-m", "tfserving_client", "classify", file]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_key_and_the_label_are_sent(
    sevens: ScriptedGrpc, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[Any] = []

    def behaviour(method: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        keys.append(dict(context.invocation_metadata()).get("x-api-key"))
        return _sevens(method, body, context)

    sevens.behaviour = behaviour
    monkeypatch.setenv("DIGITS_API_KEY", "from the environment")
    assert main(["classify", file, "--label=canary"]) == 0
    assert main(["classify", file, "--api-key=from the line"]) == 0
    assert keys == ["from the environment", "from the line"]
    request = predict_pb2.PredictRequest.FromString(sevens.calls[0][1])
    assert request.model_spec.version_label == "canary"


@pytest.mark.parametrize("flags", [["--ca=missing.pem"], ["--cert=missing.pem"]])
def test_a_certificate_that_cannot_be_used_is_bad_input(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--url=grpcs://localhost", *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def _bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["bench", "--json", "--duration=0.2", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_bench_sends_what_is_due(sevens: ScriptedGrpc, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = _bench(capsys, "--rate=50", "--arrivals=constant", "--batch=3")
    assert (status, report["requests"], report["answered"], report["errors"]) == (0, 10, 10, {})
    assert (report["asked"], report["batch"]) == (50, 3)
    assert report["images_per_second"] == pytest.approx(3 * report["requests_per_second"])
    assert len(sevens.calls) == 11  # one to connect
    request = predict_pb2.PredictRequest.FromString(sevens.calls[0][1])
    assert [dim.size for dim in request.inputs["images"].tensor_shape.dim] == [3, 28, 28]


@pytest.mark.usefixtures("sevens")
def test_bench_without_a_rate_asks_in_a_closed_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, report = _bench(capsys, "--callers=2", "--duration=3")
    assert (status, report["asked"]) == (0, None)
    assert report["answered"] == report["requests"] >= 2
    assert "2 callers" in report["title"]
    assert sum(bucket["count"] for bucket in report["histogram"]) == report["answered"]


def test_bench_counts_failures_and_has_status_1(
    sevens: ScriptedGrpc, capsys: pytest.CaptureFixture[str]
) -> None:
    def behaviour(method: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        if len(sevens.calls) > 1:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full up")
        return _sevens(method, body, context)

    sevens.behaviour = behaviour
    status, report = _bench(capsys, "--rate=20", "--arrivals=constant")
    assert (status, report["errors"]) == (1, {"Overloaded": 4})  # none is tried again
    assert "full up" in report["examples"]["Overloaded"]


def test_bench_for_people_and_as_a_picture(
    sevens: ScriptedGrpc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "i.npz", y=np.arange(2), x=np.full((2, 28, 28), 9, np.uint8))
    svg = tmp_path / "i.svg"
    arguments = ["--duration=3", f"--images={tmp_path / 'i.npz'}", f"--picture={svg}"]
    assert main(["bench", *arguments]) == 0
    out = capsys.readouterr().out
    assert "2 images (x)" in out.splitlines()[0]
    assert "p99.9" in out
    assert "█" in out
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    request = predict_pb2.PredictRequest.FromString(sevens.calls[0][1])
    assert request.inputs["images"].tensor_content == bytes([9] * 784)


def test_bench_sends_a_folder_of_pictures(
    sevens: ScriptedGrpc, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "d/9.PNG").write_bytes(PNG + b"9")
    assert _bench(capsys, "--images=d", "--batch=2")[0] == 0
    request = predict_pb2.PredictRequest.FromString(sevens.calls[0][1])
    assert list(request.inputs["image_bytes"].string_val) == [PNG + b"9", PNG]


@pytest.mark.parametrize(
    "flag", ["--images=missing.npz", "--images=missing", "--picture=no/such/folder.svg"]
)
def test_bench_refuses_bad_input_before_it_asks(
    flag: str, sevens: ScriptedGrpc, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", flag]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sevens.calls == []


def test_bench_of_a_server_that_is_gone_is_one_line_and_status_1(
    closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", f"--url=http://127.0.0.1:{closed_port}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "archive", [b"", b"PK no archive", {"labels": np.arange(3)}, {"images": np.zeros((0, 28, 28))}]
)
def test_bench_refuses_an_archive_without_images(
    archive: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "images.npz"
    if isinstance(archive, bytes):
        path.write_bytes(archive)
    else:
        np.savez(path, **archive)
    assert main(["bench", f"--images={path}"]) == 2
    assert "images.npz" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--rate=0", "--rate=nan", "--duration=-1", "--batch=0.5"])
def test_bench_refuses_numbers_that_mean_nothing(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", flag])
    assert exit_.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err
