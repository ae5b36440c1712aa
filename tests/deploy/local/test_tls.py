"""TLS on the gRPC port, with certificates made here."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from deploy.local import text_files
from deploy.local.errors import ServingError
from deploy.local.grpc import server as grpc_server
from tests.deploy.local.conftest import DEADLINE

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Keys and certificates: a CA, and a server (localhost) and a client that it vouches for."""
    folder = tmp_path_factory.mktemp("pems")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca = [f"{folder}/ca.key", f"{folder}/ca.crt"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", ca[0], "-out", ca[1])
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for name in ("server", "client"):
        files = [f"{folder}/{name}.{kind}" for kind in ("key", "csr", "crt")]
        openssl(*new, "-subj", f"/CN={name}", "-keyout", files[0], "-out", files[1])
        sign = ["x509", "-req", "-CA", ca[1], "-CAkey", ca[0], "-CAcreateserial", "-days", "2"]
        openssl(*sign, "-extfile", f"{folder}/names", "-in", files[1], "-out", files[2])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=[False, True], ids=["server-only", "mutual"])
def running(
    request: Any, pems: dict[str, bytes], models: Path, start_server: Any, tmp_path_factory: Any
) -> Any:
    """A server, and whether it wants client certificates."""
    config = text_files.SSLConfig(
        server_key=pems["server.key"].decode(), server_cert=pems["server.crt"].decode()
    )
    if request.param:
        config.custom_ca, config.client_verify = pems["ca.crt"].decode(), True
    file = tmp_path_factory.mktemp("tls") / "ssl.config"
    # The contents stand in the file, with \n for the ends of lines.
    file.write_text(text_format.MessageToString(config))
    server = start_server(model_name="line", model_base_path=models / "line", ssl_config_file=file)
    return server.wait_ready(), request.param


def outcome(port: int, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "line"
    where = f"localhost:{port}"
    secure = credentials and grpc.secure_channel(where, credentials)
    with secure or grpc.insecure_channel(where) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            stub.GetModelStatus(request, timeout=60)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK


def test_who_gets_an_answer(running: Any, pems: dict[str, bytes]) -> None:
    server, mutual = running
    known = grpc.ssl_channel_credentials(pems["ca.crt"], pems["client.key"], pems["client.crt"])
    nameless = grpc.ssl_channel_credentials(pems["ca.crt"])
    stranger = grpc.ssl_channel_credentials(pems["client.crt"])
    refused = grpc.StatusCode.UNAVAILABLE
    assert outcome(server.port, known) == grpc.StatusCode.OK
    assert outcome(server.port, nameless) == (refused if mutual else grpc.StatusCode.OK)
    assert outcome(server.port, stranger) == refused
    assert outcome(server.port, None) == refused


def test_rest_stays_plain(running: Any) -> None:
    server, _ = running
    assert server.rest("GET", "/v1/models/line")[0] == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("server_key_file: 'a'", "INVALID_ARGUMENT: Invalid protobuf file: '{path}'"),
        ("client_verify: true", "INVALID_ARGUMENT: {path}: client_verify needs custom_ca"),
    ],
)
def test_unusable_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "ssl.config"
    path.write_text(content)
    with pytest.raises(ServingError) as caught:
        grpc_server.credentials(path)
    assert str(caught.value) == message.format(path=path)


def test_contents_that_are_no_certificates(start_server: Any, models: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text('server_key: "no" server_cert: "pem"')
    server = start_server(
        model_name="line", model_base_path=models / "line", ssl_config_file=tmp_path / "f"
    )
    assert server.process.wait(DEADLINE) == 255
    assert "Error: INVALID_ARGUMENT: Failed to BuildAndStart gRPC server" in server.log.read_text()
