"""The gateway's nginx, which keeps some of the requests for `compare --live`."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.runner import free_ports
from tests.deploy.gateway import Gateway, running, until
from tests.deploy.recorder import recording
from tests.deploy.test_gateway_answers import with_javascript
from tfserving_client.grpc import messages

pytestmark = with_javascript

SERVER = "127.0.0.2"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
OVER_REST = "/v1/models/mnist:predict"
FAST = 100_000  # a second


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    grpc_port, rest_port = free_ports(2)
    with recording(SERVER, (grpc_port, rest_port)):
        yield grpc_port, rest_port


@pytest.fixture(scope="module")
def gateway(ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("shadow"), [SERVER], ports) as gateway:
        yield gateway


@contextlib.contextmanager
def _keeping(
    gateway: Gateway, percent: float = 100, rate: int = FAST, seconds: int = 3600
) -> Iterator[Path]:
    """Keep requests to mnist meanwhile; gives the folder of them."""
    end = int(time.time()) + seconds
    config = gateway.folder / "shadow.config"
    with gateway.reloading():
        config.write_text(f"mnist {percent} {rate} {end}\n")
    yield gateway.folder / "run" / "shadow" / str(end)
    with gateway.reloading():
        config.unlink()


def _kept(folder: Path) -> list[tuple[str, bytes]]:
    """Path and body of each."""
    entries = [json.loads(file.read_text()) for file in sorted(folder.iterdir())]
    return [(entry["path"], base64.b64decode(entry["body"])) for entry in entries]


def _request(model: str, size: int = 0) -> bytes:
    """A PredictRequest of at least that many bytes."""
    made = messages.PredictRequest(model_spec={"name": model}, output_filter=["x" * size])
    written: bytes = made.SerializeToString()
    return written


def _over_grpc(gateway: Gateway, body: bytes) -> None:
    """Ask, and see the request that the server got, which it answers with."""
    with gateway.channel(local=True) as channel:
        assert channel.unary_unary(PREDICT)(body, timeout=60) == body


def _over_rest(gateway: Gateway, body: bytes, path: str = OVER_REST) -> None:
    answer = gateway.ask("POST", path, body, local=True)
    assert (answer.status, answer.body.decode()) == (200, SERVER)


def test_requests_to_the_model_are_kept_over_both_protocols_and_no_others(
    gateway: Gateway,
) -> None:
    _over_rest(gateway, b"{}")  # by default none is
    with _keeping(gateway) as folder:
        _over_rest(gateway, b'{"instances": [1]}')
        _over_rest(gateway, b'{"instances": [2]}', "/v1/models/mnist/labels/stable:predict")
        _over_rest(gateway, b'{"examples": [{}]}', "/v1/models/mnist:classify")
        _over_grpc(gateway, _request("mnist", 900_000))
        expected = [
            (OVER_REST, b'{"instances": [1]}'),
            ("/v1/models/mnist/labels/stable:predict", b'{"instances": [2]}'),
            ("/v1/models/mnist:classify", b'{"examples": [{}]}'),
            (PREDICT, _request("mnist", 900_000)),
        ]
        _over_rest(gateway, b'{"instances": [1]}', "/v1/models/mnist2:predict")
        _over_grpc(gateway, _request("mnist2"))
        _over_grpc(gateway, b"")
        _over_grpc(gateway, b"\xff" * 100)
        _over_rest(gateway, b" " * 1_500_000)  # more than is kept
        _over_grpc(gateway, _request("mnist", 1_500_000))
        assert gateway.ask("GET", "/v1/models/mnist", local=True).status == 200
        assert gateway.call(METADATA, local=True)[0] == "OK"
        assert sorted(_kept(folder)) == sorted(expected)
    until(lambda: not folder.exists())
    _over_rest(gateway, b"{}")
    assert not folder.exists()


def test_neither_key_nor_header_is_kept(gateway: Gateway) -> None:
    key = gateway.new_key("alice")
    headers = {"Authorization": "Bearer secret-token", "Cookie": "secret-cookie"}
    with _keeping(gateway) as folder:
        assert gateway.ask("POST", OVER_REST, b"{}", key=key, headers=headers).status == 200
        assert gateway.call(PREDICT, _request("mnist"), key=key)[0] == "OK"
        # Who may not ask is not kept.
        assert gateway.ask("POST", OVER_REST, b"{}", key="dk_wrong").status == 401
        assert gateway.ask("POST", "/v1/models/mnist:delete", b"{}", key=key).status == 403
        assert sorted(_kept(folder)) == [(PREDICT, _request("mnist")), (OVER_REST, b"{}")]
        text = "".join(file.read_text() for file in folder.iterdir())
        assert not {key, "alice", "secret", "127.0.0.1"} & {*text.split('"')}
        assert {name for line in text.splitlines() for name in json.loads(line)} == {
            "path",
            "body",
        }


def test_the_share_and_the_rate_are_kept_to(gateway: Gateway) -> None:
    with _keeping(gateway, percent=50) as folder:
        for _ in range(200):
            _over_rest(gateway, b"{}")
        assert 60 <= len(_kept(folder)) <= 140  # within five and a half deviations
    with _keeping(gateway, rate=2) as folder:
        begun, before = time.time(), len(_kept(folder))
        for _ in range(200):
            _over_rest(gateway, b"{}")
        # One in each half second, of which the first and the last may be cut.
        assert 1 <= len(_kept(folder)) <= before + 2 * (time.time() - begun) + 2


def test_it_ends_by_itself(gateway: Gateway) -> None:
    config, end = gateway.folder / "shadow.config", int(time.time()) + 8
    folder = gateway.folder / "run" / "shadow" / str(end)
    config.write_text(f"mnist 100 {FAST} {end}\n")
    until(lambda: folder.exists() and _is_keeping(gateway, folder))
    until(lambda: not _is_keeping(gateway, folder))
    assert time.time() >= end
    assert _kept(folder)  # a minute is left to fetch them
    config.unlink()
    until(lambda: not folder.exists())


def _is_keeping(gateway: Gateway, folder: Path) -> bool:
    before = len(_kept(folder))
    _over_rest(gateway, b"{}")
    return len(_kept(folder)) > before


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_callers_notice_nothing_where_requests_cannot_be_kept(size: int, gateway: Gateway) -> None:
    with _keeping(gateway) as folder:
        folder.rmdir()
        folder.write_bytes(b"")  # as bad as a full one: nothing can be written there
        for _ in range(3):
            _over_rest(gateway, b" " * size)
            _over_grpc(gateway, _request("mnist", size))
        if size == 10:
            until(lambda: "not kept" in gateway.log)


def test_refusals_stay_what_they_are(ports: tuple[int, int], tmp_path: Path) -> None:
    with running(tmp_path, [SERVER], ports, rate=1) as gateway, _keeping(gateway):
        key = gateway.new_key("bob")
        asked = [gateway.ask("POST", OVER_REST, b"{}", key=key) for _ in range(5)]
        last = asked[-1]
        assert (last.status, last.headers["retry-after"]) == (429, "1")
        assert json.loads(last.body)["error"].startswith("This key's requests come too fast")
        assert gateway.call(PREDICT, _request("mnist"), key=key)[0] == "RESOURCE_EXHAUSTED"
        assert gateway.ask("GET", "/shadow", local=True).status == 403
        gateway.replicas("127.0.0.9")  # where nobody listens
        until(lambda: gateway.ask("POST", OVER_REST, b"{}", local=True).status == 503)
        failed = gateway.ask("POST", OVER_REST, b"{}", local=True)
        assert json.loads(failed.body) == {"error": "No server answers; try again."}
        status, metadata = gateway.call(PREDICT, _request("mnist"), local=True)
        assert (status, metadata["retry-after"]) == ("UNAVAILABLE", "1")
