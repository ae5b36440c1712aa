"""`--ssl_config_file`: gRPC is encrypted, REST stays as it is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tests.congruence.servers import Server

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

Call = Callable[..., str]


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A key (`<who>-key`) or certificate (`<who>`); every one is its own authority."""
    folder = tmp_path_factory.mktemp("pems")

    def read(name: str) -> bytes:
        path = folder / f"{name}.pem"
        if not path.exists():
            who = name.removesuffix("-key")
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={who}"),
                    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                    *("-addext", "subjectAltName=IP:127.0.0.1"),
                    *("-keyout", folder / f"{who}-key.pem", "-out", folder / f"{who}.pem"),
                ],
                check=True,
                capture_output=True,
            )
        return path.read_bytes()

    return read


@pytest.fixture(scope="module", params=[False, True], ids=["one-way", "mutual"])
def server(
    request: pytest.FixtureRequest,
    models: Path,
    pem: Callable[[str], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    server = Server(models, tmp_path_factory.mktemp("tls").resolve() / "work")
    fields = {"server_key": "server-key", "server_cert": "server"}
    if request.param:
        fields["custom_ca"] = "client"
    lines = [f"{field}: {_quoted(pem(name))}" for field, name in fields.items()]
    server.write("ssl.config", "\n".join([*lines, f"client_verify: {str(request.param).lower()}"]))
    try:
        server.start(
            {
                "model_name": "line",
                "model_base_path": "{models}/line",
                "ssl_config_file": "{work}/ssl.config",
            }
        )
        yield server
    finally:
        server.stop()


def _quoted(pem: bytes) -> str:
    return '"' + pem.decode().replace("\n", "\\n") + '"'


@pytest.fixture
def call(server: Server, pem: Callable[[str], bytes]) -> Call:
    """Asks for the model's status; the code of the answer."""

    def call(trusted: str = "server", me: str | None = None, *, plain: bool = False) -> str:
        pair = (pem(f"{me}-key"), pem(me)) if me else (None, None)
        address = f"127.0.0.1:{server.port}"
        secret = grpc.ssl_channel_credentials(pem(trusted), *pair)
        channel = grpc.insecure_channel(address) if plain else grpc.secure_channel(address, secret)
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "line"})
        with channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            try:
                stub.GetModelStatus(request, timeout=60)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    return call


def test_who_gets_in(call: Call, request: pytest.FixtureRequest) -> None:
    mutual = "mutual" in request.node.name
    assert call(me="client") == "OK"
    assert call() == ("UNAVAILABLE" if mutual else "OK")
    assert call(me="stranger") == ("UNAVAILABLE" if mutual else "OK")
    assert call(trusted="stranger", me="client") == "UNAVAILABLE"
    assert call(plain=True) == "UNAVAILABLE"


def test_rest_stays_plain(server: Server) -> None:
    answer = server.ask({"verb": "GET", "path": "/v1/models/line"})
    assert answer["status"] == 200
    assert '"state": "AVAILABLE"' in answer["body"]
