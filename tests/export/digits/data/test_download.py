"""MNIST from a server that fails in every way, over real connections."""

from __future__ import annotations

import errno
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from export.digits.data import download, sample
from export.digits.data import sources as data
from export.errors import InputError

WAIT = 30  # seconds, for what happens at once; only a failing test waits so long


def _npz(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        x_train=random.integers(0, 256, (100, 28, 28), np.uint8),
        y_train=random.integers(0, 10, 100, np.uint8),
        x_test=random.integers(0, 256, (20, 28, 28), np.uint8),
        y_test=random.integers(0, 10, 20, np.uint8),
    )
    return buffer.getvalue()


# The "MNIST" expected here.
FILE = _npz(0)
SHA256 = data._read_npz(io.BytesIO(FILE), "FILE", "mnist").sha256


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answers = self.server.answers
        (answers.pop(0) if answers else _fine)(self)

    def start(self, status: int = 200, length: int = len(FILE), **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


_Answer = Callable[[_Handler], object]


class _Server(ThreadingHTTPServer):
    """Gives the answers of the list, one a request, and after them the file."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[_Answer] = []
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.stalled = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mnist.npz"


def _fine(request: _Handler) -> None:
    request.start()
    request.wfile.write(FILE)


def _cut_off(request: _Handler) -> None:
    request.start()
    request.wfile.write(FILE[:5000])


def _reset(request: _Handler) -> None:
    request.start()
    request.wfile.write(FILE[:5000])
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()


def _hung_up(request: _Handler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def _stalled(request: _Handler) -> None:
    request.start()
    request.wfile.write(FILE[:5000])
    request.server.stalled.set()
    request.server.closing.wait(WAIT)


def _silent(request: _Handler) -> None:
    request.server.stalled.set()
    request.server.closing.wait(WAIT)


def _dribbled(request: _Handler) -> None:
    request.start()
    for start in range(0, len(FILE), 100):
        request.wfile.write(FILE[start : start + 100])
        request.wfile.flush()


def _sent(body: bytes, status: int = 200, **headers: str) -> _Answer:
    def answer(request: _Handler) -> None:
        request.start(status, len(body), **headers)
        request.wfile.write(body)

    return answer


def _status(status: int, **headers: str) -> _Answer:
    return _sent(b"<html>sorry</html>", status, **headers)


def _moved_to(url: str) -> _Answer:
    return _status(302, Location=url)


_corrupted = _sent(FILE[:9000] + bytes(99) + FILE[9099:])
_other_data = _sent(_npz(1))
_login_page = _sent(b"<html>a hotel's login page</html>")
_longer = _sent(FILE + b"\0" * 9)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Server]:
    """Stands where MNIST is downloaded from."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with _Server() as server:
        monkeypatch.setattr(data, "MNIST_URL", server.url)
        monkeypatch.setattr(data, "MNIST_SHA256", SHA256)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made; none is."""
    made: list[float] = []
    monkeypatch.setattr(download, "sleep", made.append)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "keras" / "datasets" / "mnist.npz"


@pytest.fixture
def nowhere(closed_port: int) -> str:
    return f"http://127.0.0.1:{closed_port}/mnist.npz"


def _files(cache: Path) -> list[str]:
    """What is in the cache's folder."""
    return sorted(path.name for path in cache.parent.glob("*"))


def _refusal() -> str:
    with pytest.raises(InputError) as refusal:
        data.load("mnist")
    return str(refusal.value)


def test_mnist_is_downloaded_once_into_kerass_cache(server: _Server, cache: Path) -> None:
    for _ in range(2):
        assert data.load("mnist").sha256 == SHA256
    assert server.asked == ["/mnist.npz"]
    assert cache.read_bytes() == FILE
    assert _files(cache) == ["mnist.npz"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_cut_off, "IncompleteRead(5000 bytes read, "),
        (_reset, "Connection reset by peer"),
        (_hung_up, "Remote end closed connection without response"),
        (_status(429), "the server answers 429 Too Many Requests"),
        (_status(500), "the server answers 500 Internal Server Error"),
        (_status(503), "the server answers 503 Service Unavailable"),
        (_corrupted, "the download is not a readable .npz of plain arrays: Bad CRC-32 for file"),
        (
            _sent(FILE[:9000]),
            "the download is not a readable .npz of plain arrays: File is not a zip",
        ),
        (
            _login_page,
            "the download is not a readable .npz of plain arrays: File is not a zip file",
        ),
        (_other_data, f"expected MNIST's, {SHA256}"),
        (_sent(b""), "the download is not a readable .npz of plain arrays: File is not a zip file"),
    ],
)
def test_a_fault_that_may_pass_is_told_and_tried_again(
    server: _Server,
    cache: Path,
    fault: _Answer,
    reason: str,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.answers = [fault]
    assert data.load("mnist").sha256 == SHA256
    assert len(server.asked) == 2
    assert pauses == [1]
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"data    downloading {server.url}"
    assert second.startswith("data    ")
    assert second.endswith("; trying again in 1 s")
    assert reason in second
    assert cache.read_bytes() == FILE
    assert _files(cache) == ["mnist.npz"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_cut_off, "IncompleteRead(5000 bytes read, "),
        (_status(503), "the server answers 503 Service Unavailable"),
        (_corrupted, "Bad CRC-32 for file"),
        (_login_page, "File is not a zip file"),
        (_other_data, "the download holds arrays of SHA-256 "),
    ],
)
def test_a_fault_that_does_not_pass_is_one_sentence_and_leaves_nothing(
    server: _Server, cache: Path, fault: _Answer, reason: str, pauses: list[float]
) -> None:
    server.answers = [fault] * 99
    refusal = _refusal()
    assert refusal.startswith(f"{server.url} cannot be downloaded: ")
    assert reason in refusal
    assert refusal.endswith(" (tried 4 times)")
    assert len(server.asked) == 4
    assert pauses == [1, 2, 4]
    assert _files(cache) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_a_refusal_of_the_servers_is_not_tried_again(
    server: _Server, cache: Path, status: int, pauses: list[float]
) -> None:
    server.answers = [_status(status)]
    assert f": the server answers {status} " in (refusal := _refusal())
    assert refusal.endswith(" (tried once)")
    assert len(server.asked) == 1
    assert pauses == []
    assert _files(cache) == []


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("7", 7), ("0", 1), ("100000", 60), ("9" * 5000, 60), ("soon", 1), ("-5", 1),
     ("Fri, 31 Dec 2100 23:59:59 GMT", 1)],
)  # fmt: skip
def test_the_server_may_ask_for_a_longer_pause_within_reason(
    server: _Server, asked: str, pause: float, pauses: list[float]
) -> None:
    server.answers = [_status(503, Retry_After=asked)]
    assert data.load("mnist").sha256 == SHA256
    assert pauses == [pause]


def test_a_shorter_pause_than_its_own_is_not_taken(server: _Server, pauses: list[float]) -> None:
    server.answers = [_status(503), _status(503, Retry_After="1")]
    assert data.load("mnist").sha256 == SHA256
    assert pauses == [1, 2]


@pytest.mark.parametrize("fault", [_stalled, _silent])
def test_a_stall_is_tried_again(
    server: _Server, fault: _Answer, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    server.answers = [fault]
    said: list[str] = []

    def patient_again(_: float) -> None:
        while server.answers:  # until the fault has met the first request
            time.sleep(0.01)
        monkeypatch.setattr(download, "_STALL_TIMEOUT", WAIT)

    monkeypatch.setattr(download, "_STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(download, "sleep", patient_again)
    monkeypatch.setattr(download, "say", said.append)
    assert data.load("mnist").sha256 == SHA256
    assert said[1:] == ["data    timed out; trying again in 1 s"]
    assert _files(cache) == ["mnist.npz"]


def test_a_slow_transfer_is_waited_for(server: _Server, cache: Path) -> None:
    server.answers = [_dribbled]
    assert data.load("mnist").sha256 == SHA256
    assert len(server.asked) == 1
    assert cache.read_bytes() == FILE


def test_a_redirect_is_followed(server: _Server, cache: Path) -> None:
    server.answers = [_moved_to("/elsewhere.npz")]
    assert data.load("mnist").sha256 == SHA256
    assert server.asked == ["/mnist.npz", "/elsewhere.npz"]
    assert _files(cache) == ["mnist.npz"]


def test_no_more_is_taken_than_mnist_could_be(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MOST_BYTES", len(FILE))
    server.answers = [_longer]
    assert data.load("mnist").sha256 == SHA256
    assert len(server.asked) == 2


def test_without_a_network_nothing_is_waited_for(
    nowhere: str, server: _Server, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for resolve, reason in (
        (socket.getaddrinfo, "[Errno 111] Connection refused"),
        (unknown, "[Errno -3] Temporary failure in name resolution"),
    ):
        monkeypatch.setattr(data, "MNIST_URL", nowhere)
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert _refusal() == f"{nowhere} cannot be downloaded: {reason} (tried once)"
    assert pauses == []
    assert server.asked == []


def test_a_host_that_does_not_answer_is_given_up_soon(
    server: _Server, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    """A full queue of connections drops further ones, as a firewall does."""
    assert download._CONNECT_TIMEOUT <= 2
    monkeypatch.setattr(download, "_CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(download, "_STALL_TIMEOUT", WAIT)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        with socket.create_connection(deaf.getsockname()):
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/mnist.npz"
            monkeypatch.setattr(data, "MNIST_URL", url)
            assert _refusal() == f"{url} cannot be downloaded: timed out (tried once)"
    assert time.monotonic() - started < WAIT
    assert pauses == []
    assert server.asked == []


def test_a_network_that_goes_away_between_is_waited_for(
    nowhere: str, server: _Server, pauses: list[float]
) -> None:
    server.answers = [_cut_off, _moved_to(nowhere)]
    assert data.load("mnist").sha256 == SHA256
    assert pauses == [1, 2]


def test_the_environments_proxy_is_asked(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/mnist.npz"))
    monkeypatch.setattr(data, "MNIST_URL", "http://mnist.invalid/mnist.npz")
    assert data.load("mnist").sha256 == SHA256
    assert server.asked == ["http://mnist.invalid/mnist.npz"]


def test_auto_falls_back_to_the_digits_loudly(
    server: _Server,
    cache: Path,
    digits: data.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(data, "_embedded_sample", lambda: digits)
    server.answers = [_status(404)]
    dataset = data.load("auto")
    assert (dataset.name, dataset.sha256) == ("digits", digits.sha256)
    assert dataset.note.endswith("; trained instead on " + sample.NOTE)
    assert f"{server.url} cannot be downloaded: the server answers 404" in dataset.note
    assert f"\n  !!  {dataset.note}\n" in capsys.readouterr().err
    assert _files(cache) == []
    assert data.load("auto").name == "mnist"  # the next time


@pytest.mark.parametrize("content", [_npz(1), FILE[:9000], b""])
def test_a_cache_of_something_else_is_told_and_replaced(
    server: _Server, cache: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert data.load("mnist").sha256 == SHA256
    assert capsys.readouterr().err.startswith(f"data    {cache} ")
    assert cache.read_bytes() == FILE
    assert len(server.asked) == 1


@pytest.mark.parametrize("obstacle", ["keras", "keras/datasets/mnist.npz"])
def test_a_cache_that_cannot_be_written_costs_only_the_next_download(
    server: _Server,
    tmp_path: Path,
    cache: Path,
    obstacle: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if obstacle == "keras":
        (tmp_path / obstacle).write_text("no folder")
    else:
        (tmp_path / obstacle).mkdir(parents=True)
    for _ in range(2):
        assert data.load("mnist").sha256 == SHA256
        assert (
            "data    MNIST could not be saved for the next run: [Errno" in capsys.readouterr().err
        )
    assert len(server.asked) == 2
    assert _files(cache) in ([], ["mnist.npz"])


def test_a_full_disk_leaves_nothing(
    server: _Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    assert data.load("mnist").sha256 == SHA256
    assert len(server.asked) == 1
    assert _files(cache) == []


def test_two_runs_at_once_do_not_disturb_one_another(
    server: _Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both download at the same time, and neither renames before both have written."""
    downloading, written = threading.Barrier(2, timeout=WAIT), threading.Barrier(2, timeout=WAIT)
    replace = Path.replace

    def together(request: _Handler) -> None:
        downloading.wait()
        _fine(request)

    def replace_together(path: Path, target: Path) -> Path:
        written.wait()
        return replace(path, target)

    server.answers = [together, together]
    monkeypatch.setattr(Path, "replace", replace_together)
    with ThreadPoolExecutor(2) as both:
        loaded = list(both.map(data.load, ["mnist", "mnist"]))
    assert [dataset.sha256 for dataset in loaded] == [SHA256] * 2
    assert cache.read_bytes() == FILE
    assert _files(cache) == ["mnist.npz"]


def _run(server: _Server, *, before: str = "") -> subprocess.Popen[bytes]:
    """The download in a process of its own, which may be killed."""
    program = f"""
import os, pathlib, signal
from export.digits.data import sources as data
# Whoever runs the tests in the background makes them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
data.MNIST_URL, data.MNIST_SHA256 = {server.url!r}, {SHA256!r}
{before}
data.load("mnist")
"""
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_kill_amid_the_transfer_leaves_nothing(
    server: _Server, cache: Path, number: signal.Signals
) -> None:
    server.answers = [_stalled]
    with _run(server) as run:
        assert server.stalled.wait(WAIT)
        run.send_signal(number)
        assert run.wait(WAIT) == -number
    assert _files(cache) == []


def test_a_kill_amid_the_writing_leaves_nothing_that_is_taken_for_mnist(
    server: _Server, cache: Path
) -> None:
    kill = "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    with _run(server, before=kill) as run:
        assert run.wait(WAIT) == -signal.SIGKILL
    assert not cache.exists()
    assert data.load("mnist").sha256 == SHA256
    assert cache.read_bytes() == FILE


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_a_bar_and_a_log_file_does_not(
    server: _Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    for kind in (_Terminal, io.StringIO):
        cache.unlink(missing_ok=True)
        stream = kind()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            data.load("mnist")
        seen[kind.__name__] = stream.getvalue()
    assert seen["StringIO"] == f"data    downloading {server.url}\n"
    assert "\r100%" in seen["_Terminal"]
    assert f"{len(FILE) / 1000:.0f}" in seen["_Terminal"]
    assert seen["_Terminal"].endswith("\n")
