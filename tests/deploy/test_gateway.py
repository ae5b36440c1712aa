"""The gateway's nginx on this machine, in front of servers that remember what they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from deploy.exporter.access_log import AccessLog
from deploy.exporter.models import Models
from deploy.operate.access import certificates, keys, secret_files
from deploy.runner import free_ports, serve
from tests.conftest import Version
from tests.deploy.gateway import DEADLINE, Answer, Gateway, hosts, running, secrets_in, until
from tests.deploy.recorder import Recorder, recording
from tfserving_client import (
    AccessDenied,
    AsyncDigitClient,
    Classification,
    DigitClient,
    Overloaded,
    Policy,
    Tls,
)

ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
PREDICT_OVER_REST = "/v1/models/mnist:predict"
MEGABYTE = bytes(1 << 20)
LIMIT = 64 << 20  # bytes, of nginx.conf

Ports = tuple[int, int]


@pytest.fixture(scope="module")
def ports() -> Ports:
    grpc_port, rest_port = free_ports(2)
    return grpc_port, rest_port


@pytest.fixture(scope="module")
def one(ports: Ports) -> Iterator[Recorder]:
    """The one replica of most tests."""
    with recording(ADDRESSES[0], ports) as recorder:
        yield recorder


def _waiting(seconds: int) -> dict[str, str]:
    """The change that lets a body pause for so long."""
    return {"client_body_timeout 10s": f"client_body_timeout {seconds}s"}


@pytest.fixture(scope="module")
def gateway(
    one: Recorder, ports: Ports, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("gateway"), [one.address], ports) as gateway:
        yield gateway


@pytest.fixture
def hurried(one: Recorder, ports: Ports, tmp_path: Path) -> Iterator[Gateway]:
    """Waits a second for what does not come."""
    with running(tmp_path, [one.address], ports, changes=_waiting(1)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.new_key("alice")


@pytest.fixture
def unasked(one: Recorder) -> Iterator[None]:
    """Whatever a test does, the server sees nothing of it."""
    before = len(one.asked)
    yield
    assert one.asked[before:] == []


# Who may pass


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("wrong", ["", "dk_00000000000000000000000000000000", "alice", "$key_name"])
def test_without_a_key_that_is_known_nothing_passes(gateway: Gateway, wrong: str) -> None:
    answer = gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=wrong)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert "x-api-key" in json.loads(answer.body)["error"]
    assert gateway.ask("GET", "/v1/models/mnist", key=wrong).status == 401
    assert gateway.ask("GET", "/v1/anything", key=wrong).status == 401
    code, metadata = gateway.call(PREDICT, key=wrong)
    assert code == "UNAUTHENTICATED"
    assert "retry-after" not in metadata


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    ("wrong", "says"),
    [("", "An API key is needed"), ("dk_0", "The key in x-api-key is not known here")],
)
def test_a_key_that_is_not_known_is_told_from_none(gateway: Gateway, wrong: str, says: str) -> None:
    answer = gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=wrong)
    assert json.loads(answer.body)["error"].startswith(says)
    metadata = [("x-api-key", wrong)] if wrong else []
    with gateway.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(b"", timeout=DEADLINE, metadata=metadata)
    assert caught.value.details().startswith(says)


def test_a_key_ends_by_itself_and_its_successor_goes_on(gateway: Gateway) -> None:
    def status(key: str) -> int:
        return gateway.ask("GET", "/v1/models/mnist", key=key).status

    with secrets_in(gateway.folder):
        first = keys.create("heidi", days=1)
        second = keys.rotate("heidi")
        assert first.ends is not None
        until(lambda: status(first.key) == status(second.key) == 200)
        ends = f"{first.ends:%Y-%m-%dT%H:%M:%SZ}"
        until(lambda: f'"key":"heidi","key_ends":"{ends}"' in gateway.log)
        path = gateway.secrets / "keys.conf"
        soon = datetime.now(UTC) + timedelta(seconds=2)
        text = path.read_text()
        assert text.count("ends") == 2
        moved = text.replace(ends, f"{soon:%Y-%m-%dT%H:%M:%SZ}", 1)
        secret_files.replace(path, moved.encode())
        until(lambda: status(first.key) == 401)
        assert datetime.now(UTC) >= soon.replace(microsecond=0)
        assert status(second.key) == 200
        keys.revoke("heidi")


@pytest.mark.usefixtures("unasked")
def test_a_revoked_key_no_longer_passes(gateway: Gateway) -> None:
    key = gateway.new_key("bob")
    gateway.revoke("bob")
    until(lambda: gateway.ask("GET", "/v1/", key=key).status == 401)
    until(lambda: gateway.call(PREDICT, key=key)[0] == "UNAUTHENTICATED")
    assert gateway.process.poll() is None


def test_a_connection_that_stays_open_is_no_way_around_it(gateway: Gateway) -> None:
    key, codes = gateway.new_key("carol"), list[str]()
    with gateway.channel() as channel:
        call = channel.unary_unary(PREDICT)

        def is_refused() -> bool:
            try:
                call(b"", timeout=DEADLINE, metadata=[("x-api-key", key)])
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:  # nginx closed the connection
                    codes.append(error.code().name)
            return bool(codes)

        assert not is_refused()
        with gateway.reloading(), secrets_in(gateway.folder):
            keys.revoke("carol")
            until(is_refused)
    assert codes == ["UNAUTHENTICATED"]


def test_with_a_key_a_call_passes_and_the_server_does_not_see_the_key(
    gateway: Gateway, one: Recorder, key: str
) -> None:
    assert gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=key).body == one.address.encode()
    assert one.asked[-1] == f"POST {PREDICT_OVER_REST}"
    assert gateway.call(PREDICT, b"a request", key=key)[0] == "OK"
    assert one.asked[-1] == PREDICT
    assert not any("x-api-key" in headers for headers in one.headers)


@pytest.mark.usefixtures("unasked")
def test_plain_http_at_the_door_is_refused(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as connection:
        connection.sendall(b"GET /v1/models/mnist HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


@pytest.mark.usefixtures("unasked")
def test_old_versions_of_tls_are_refused(gateway: Gateway) -> None:
    context = gateway.tls.context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as connection:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(connection, server_hostname="localhost")


# What may pass

WHICH = ("", "/versions/3", "/labels/a%20b")
ALLOWED = [
    *(
        ("POST", f"{which}:{verb}")
        for which in WHICH
        for verb in ("predict", "classify", "regress")
    ),
    *(("GET", f"{which}{what}") for which in WHICH for what in ("", "/metadata")),
]


@pytest.mark.parametrize("model", ["mnist", "prices-v2.1_b"])
@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_paths_of_inference_and_status_pass_as_they_were_sent(
    gateway: Gateway, one: Recorder, key: str, method: str, path: str, model: str
) -> None:
    path = f"/v1/models/{model}{path}"
    assert gateway.ask(method, path, b"{}" if method == "POST" else None, key=key).status == 200
    assert one.asked[-1] == f"{method} {path}"


@pytest.mark.parametrize(
    "method",
    [
        *(
            f"/tensorflow.serving.PredictionService/{name}"
            for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
        ),
        "/tensorflow.serving.ModelService/GetModelStatus",
    ],
)
def test_methods_of_inference_and_status_pass(
    gateway: Gateway, one: Recorder, key: str, method: str
) -> None:
    assert gateway.call(method, b"a request", key=key)[0] == "OK"
    assert one.asked[-1] == method


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, PREDICT_OVER_REST) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")),
        *((method, "/v1/models/mnist") for method in ("POST", "PUT", "DELETE", "HEAD", "TRACE")),
        ("POST", "/v1/models/mnist:reload"),
        ("POST", "/v1/models/mnist:predict/"),
        ("POST", "/v1/models/mnist:predict?x=1"),
        ("POST", "/v1/models/mnist/versions/new:predict"),
        ("POST", "/V1/models/mnist:predict"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/mnist/other"),
        ("GET", "/monitoring/prometheus/metrics"),
        ("GET", "/monitoring/prometheus/metrics/%2e%2e/%2e%2e/%2e%2e/v1/models/mnist"),
        ("GET", "/v1/models/mnist/%2e%2e/%2e%2e/%2e%2e/monitoring/prometheus/metrics"),
        ("GET", "//v1/models/mnist"),
        ("POST", "/"),
        ("GET", "/nginx.conf"),
        ("GET", "/kustomization.yaml"),  # which lies beside the page
        ("GET", "/v1/%2e%2e/nginx.conf"),
    ],
)
def test_other_methods_and_paths_are_refused(
    gateway: Gateway, key: str, method: str, path: str
) -> None:
    answer = gateway.ask(method, path, key=key)
    assert answer.status == (405 if method == "TRACE" else 403)
    if method != "HEAD":
        assert json.loads(answer.body).keys() == {"error"}


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    "method",
    [
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "/tensorflow.serving.PredictionService/PredictStreamed",
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.ProfilerService/Profile",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check",
        "/tensorflow.serving.PredictionService/Predict/",
        "/Predict",
    ],
)
def test_other_calls_are_refused(gateway: Gateway, key: str, method: str) -> None:
    assert gateway.call(method, key=key)[0] == "PERMISSION_DENIED"


# How much, how slowly, how often


@pytest.mark.usefixtures("unasked")
def test_a_body_past_the_limit_is_refused(gateway: Gateway, key: str) -> None:
    with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as plain:
        with gateway.tls.context().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                f"POST {PREDICT_OVER_REST} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {key}\r\n"
                f"Content-Length: {LIMIT + 1}\r\n\r\n".encode()
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


@pytest.mark.usefixtures("unasked")
def test_a_body_past_the_limit_that_does_not_say_so_is_refused(gateway: Gateway, key: str) -> None:
    with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as plain:
        with gateway.tls.context().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                f"POST {PREDICT_OVER_REST} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {key}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode()
            )
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # it hangs up on the rest
                for _ in range(LIMIT // len(MEGABYTE) + 1):
                    connection.sendall(b"100000\r\n" + MEGABYTE + b"\r\n")
    until(lambda: '"status":413' in gateway.log)


@pytest.mark.usefixtures("unasked")
def test_a_message_past_the_limit_is_refused(gateway: Gateway, key: str) -> None:
    code, metadata = gateway.call(PREDICT, bytes(LIMIT + 1), key=key)
    assert code == "RESOURCE_EXHAUSTED"
    assert "retry-after" not in metadata


COMPRESSED = gzip.compress(b"{}")


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity", "identity, gzip"])
def test_what_is_compressed_is_refused(gateway: Gateway, key: str, encoding: str) -> None:
    """The limits of the gateway count bytes as they are sent."""
    headers = {"content-encoding": encoding}
    ask = functools.partial(gateway.ask, "POST", body=COMPRESSED, headers=headers)
    for local in (False, True):
        answer = ask(PREDICT_OVER_REST, key=key, local=local)
        assert answer.status == 415
        assert "compressed" in json.loads(answer.body)["error"]
    assert ask(PREDICT_OVER_REST).status == 401
    assert ask("/v1/", key=key).status == 403


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_call_that_is_compressed_is_refused(
    gateway: Gateway, key: str, compression: grpc.Compression
) -> None:
    call = functools.partial(gateway.call, body=MEGABYTE, compression=compression)
    for local in (False, True):
        assert call(PREDICT, key=key, local=local)[0] == "UNIMPLEMENTED"
    assert call(PREDICT)[0] == "UNAUTHENTICATED"
    assert call("/tensorflow.ProfilerService/Profile", key=key)[0] == "PERMISSION_DENIED"


def test_an_encoding_that_changes_nothing_passes(gateway: Gateway, one: Recorder, key: str) -> None:
    headers = {"content-encoding": "identity"}
    assert gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=key, headers=headers).status == 200
    assert "content-encoding" not in one.headers[-1]


def test_no_server_sees_an_encoding_that_is_told_second(gateway: Gateway, one: Recorder) -> None:
    with socket.create_connection(("127.0.0.1", gateway.rest_port), DEADLINE) as connection:
        connection.sendall(
            f"POST {PREDICT_OVER_REST} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n"
            "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\n".encode()
        )
        refused = connection.recv(1 << 16).startswith(b"HTTP/1.1 415 ")
    assert refused or "content-encoding" not in one.headers[-1]


def test_a_thousand_digits_pass(gateway: Gateway, one: Recorder, key: str) -> None:
    digits = bytes(784_000)
    assert gateway.call(PREDICT, digits, key=key)[0] == "OK"
    assert gateway.ask("POST", PREDICT_OVER_REST, 4 * digits, key=key).status == 200
    assert one.asked[-2:] == [PREDICT, f"POST {PREDICT_OVER_REST}"]


@pytest.mark.usefixtures("unasked")
def test_a_body_that_does_not_come_is_not_waited_for(hurried: Gateway) -> None:
    key = hurried.new_key("slow")
    with socket.create_connection(("127.0.0.1", hurried.tls_port), DEADLINE) as plain:
        with hurried.tls.context().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                f"POST {PREDICT_OVER_REST} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {key}\r\n"
                "Content-Length: 100\r\n\r\n{".encode()
            )
            with contextlib.suppress(ssl.SSLEOFError):
                assert connection.recv(1 << 16) == b""  # nginx hangs up, and logs 408
    until(lambda: '"status":408' in hurried.log)


@pytest.mark.usefixtures("unasked")
def test_a_message_that_does_not_come_is_not_waited_for(hurried: Gateway) -> None:
    key = hurried.new_key("slow")
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(DEADLINE)
        yield from ()

    with hurried.channel() as channel:
        call = channel.stream_unary(PREDICT)
        with pytest.raises(grpc.RpcError) as refusal:
            call(nothing(), timeout=DEADLINE, metadata=[("x-api-key", key)])
        never.set()
    assert refusal.value.code().name == "INTERNAL"


def test_each_key_has_its_own_rate(ports: Ports, one: Recorder, tmp_path: Path) -> None:
    with running(tmp_path, [one.address], ports, rate=1) as gateway:
        fast, other = gateway.new_key("fast"), gateway.new_key("other")
        before = len(one.asked)
        answers = [gateway.ask("GET", "/v1/models/mnist", key=fast) for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert refused[0].headers["retry-after"] == "1"
        assert "too fast" in json.loads(refused[0].body)["error"]
        assert len(one.asked) - before == len(answers) - len(refused)
        codes = [gateway.call(PREDICT, key=fast) for _ in range(10)]
        refusals = [metadata for code, metadata in codes if code == "RESOURCE_EXHAUSTED"]
        assert refusals
        assert refusals[0]["retry-after"] == "1"
        assert gateway.ask("GET", "/v1/models/mnist", key=other).status == 200
        url = f"https://127.0.0.1:{gateway.tls_port}"
        once = Policy(attempts=1)
        with DigitClient(url, api_key=fast, tls=gateway.tls, policy=once) as digits:
            until(lambda: _is_overloaded(digits))


@contextlib.contextmanager
def _begun(gateway: Gateway, key: str, length: str) -> Iterator[ssl.SSLSocket]:
    """A request over REST whose body does not come."""
    with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as plain:
        with gateway.tls.context().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(
                f"POST {PREDICT_OVER_REST} HTTP/1.1\r\nHost: gateway\r\nx-api-key: {key}\r\n"
                f"{length}\r\n\r\n".encode()
            )
            yield connection


def test_a_key_has_no_more_than_its_share_open(ports: Ports, one: Recorder, tmp_path: Path) -> None:
    with (
        running(tmp_path, [one.address], ports, changes=_waiting(600)) as gateway,
        contextlib.ExitStack() as begun,
    ):
        slow, other = gateway.new_key("slow"), gateway.new_key("other")

        def status() -> int:
            return gateway.ask("GET", "/v1/models/mnist", key=slow).status

        for _ in range(64):
            begun.enter_context(_begun(gateway, slow, "Content-Length: 10"))
        assert status() == 200
        for _ in range(64):
            begun.enter_context(_begun(gateway, slow, "Content-Length: 10"))
        until(lambda: status() == 429)
        code, metadata = gateway.call(PREDICT, key=slow)
        assert (code, metadata["retry-after"]) == ("RESOURCE_EXHAUSTED", "1")
        assert gateway.ask("GET", "/v1/models/mnist", key=other).status == 200
        assert gateway.call(PREDICT, key=other)[0] == "OK"
        begun.close()
        until(lambda: status() == 200)


def test_a_key_does_not_fill_the_space_for_bodies(
    ports: Ports, one: Recorder, tmp_path: Path
) -> None:
    large = 2 * MEGABYTE
    with (
        running(tmp_path, [one.address], ports, changes=_waiting(600)) as gateway,
        contextlib.ExitStack() as begun,
    ):
        greedy, other = gateway.new_key("greedy"), gateway.new_key("other")

        def send(body: bytes, key: str) -> Answer:
            return gateway.ask("POST", PREDICT_OVER_REST, body, key=key)

        for _ in range(8):
            begun.enter_context(_begun(gateway, greedy, f"Content-Length: {64 << 20}"))
        until(lambda: send(large, greedy).status == 429)
        assert send(large, greedy).headers["retry-after"] == "1"
        with _begun(gateway, greedy, "Transfer-Encoding: chunked") as untold:
            assert untold.recv(1 << 16).startswith(b"HTTP/1.1 429 ")
        # What needs no space, and who has not taken any.
        assert send(b"{}", greedy).status == 200
        assert gateway.ask("GET", "/v1/models/mnist", key=greedy).status == 200
        assert gateway.call(PREDICT, large, key=greedy)[0] == "OK"
        assert send(large, other).status == 200


def _is_overloaded(digits: DigitClient) -> bool:
    try:
        digits.status()
    except Overloaded as error:
        return error.retry_after == 1
    return False


# What is told


def test_the_page_and_health_need_no_key(gateway: Gateway) -> None:
    page = gateway.ask("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html")
    for name, kind in (("page.css", "text/css"), ("page.js", "application/javascript")):
        answer = gateway.ask("GET", f"/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert gateway.ask("GET", "/healthz").body == b"ok\n"


def test_the_names_of_the_models_need_one_and_are_those_that_are_configured(
    gateway: Gateway, key: str
) -> None:
    for method, given, status in (("GET", "", 401), ("GET", "dk_no", 401), ("POST", key, 403)):
        assert gateway.ask(method, "/models.json", key=given).status == status
    told = gateway.ask("GET", "/models.json", key=key)
    assert (told.headers["content-type"], told.body) == (
        "application/json",
        b'{"models": ["mnist"]}\n',
    )
    config = gateway.folder / "models.config"
    before = config.read_text()
    comment, second = (
        '  # name: "no"\n',
        "  config { name: 'second' base_path: \"/name: 'no'\" }\n}",
    )
    with gateway.reloading():
        config.write_text("".join([before.rpartition("}")[0], comment, second]))
    assert (
        gateway.ask("GET", "/models.json", local=True).body == b'{"models": ["mnist","second"]}\n'
    )
    with gateway.reloading():
        config.write_text(before)


@pytest.mark.parametrize("path", ["/", "/page.js", "/v1/models/mnist", "/nothing"])
def test_browsers_are_told_to_be_careful(gateway: Gateway, path: str) -> None:
    headers = gateway.ask("GET", path).headers
    policy = dict(
        each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["server"] == "nginx"  # and not which
    assert "access-control-allow-origin" not in headers


def test_each_request_is_one_line_of_json_without_the_key(
    gateway: Gateway, one: Recorder, ports: Ports, key: str
) -> None:
    told = ("versions/12", PREDICT, "labels/new", "ProfilerService")
    before = [gateway.log.count(path) for path in told]
    path = "/v1/models/a%22b/versions/12:predict"
    gateway.ask("POST", path, b"{}", key=key)
    gateway.call(PREDICT, b"a request", key=key)
    gateway.ask("GET", "/v1/models/m/labels/new", key="dk_not-a-key")
    gateway.call("/tensorflow.ProfilerService/Profile", key=key)
    until(lambda: all(gateway.log.count(path) > n for path, n in zip(told, before, strict=True)))
    whole, _, _ = gateway.log.rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def last(path: str) -> dict[str, object]:
        return next(line for line in reversed(lines) if line["path"] == path)

    line = last('/v1/models/a"b/versions/12:predict')
    assert line["key"] == "alice"
    assert (line["model"], line["version"], line["label"]) == ('a"b', "12", "")
    assert (line["client"], line["method"], line["status"]) == ("127.0.0.1", "POST", 200)
    assert line["upstream"] == f"{one.address}:{ports[1]}"
    assert isinstance(line["seconds"], float)
    assert float(str(line["upstream_seconds"])) >= 0
    assert line["grpc_status"] == ""
    assert (last(PREDICT)["status"], last(PREDICT)["grpc_status"]) == (200, "0")
    refused = last("/v1/models/m/labels/new")
    assert (refused["key"], refused["label"], refused["status"]) == ("", "new", 401)
    assert refused["upstream"] == refused["upstream_seconds"] == ""
    assert last("/tensorflow.ProfilerService/Profile")["grpc_status"] == "7"
    assert all(line["id"] != other["id"] for line, other in pairwise(lines))
    assert key not in gateway.log
    assert "dk_" not in gateway.log


def test_the_log_goes_to_the_exporter_as_soon_as_there_is_one(gateway: Gateway, key: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
        exporter.bind(("127.0.0.5", 1514))
        exporter.settimeout(0.1)
        hosts(gateway.folder, "exporter", ["127.0.0.5"])

        def told() -> bool:
            gateway.ask("GET", "/v1/models/told", key=key)
            with contextlib.suppress(TimeoutError):
                return b'"model":"told"' in exporter.recv(1 << 16)
            return False

        until(told)
    with gateway.reloading():
        hosts(gateway.folder, "exporter", [])


def _counted(gateway: Gateway, key: str) -> set[tuple[str, str]]:
    """Statuses and outcomes of what a key asked, as the exporter counts the log's lines."""
    registry = CollectorRegistry()
    log = AccessLog(registry, Models(Path("none")))
    for line in gateway.log.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            log.count(line.encode())
    requests = (sample for family in registry.collect() for sample in family.samples)
    return {
        (sample.labels["status"], sample.labels["outcome"])
        for sample in requests
        if sample.name.endswith("requests_total") and sample.labels["key"] == key
    }


@pytest.mark.usefixtures("unasked")
def test_what_the_gateway_refuses_while_it_asks_a_server_is_no_failure(gateway: Gateway) -> None:
    key = gateway.new_key("erin")
    assert gateway.call(PREDICT, bytes(65 << 20), key=key)[0] == "RESOURCE_EXHAUSTED"
    until(lambda: _counted(gateway, "erin") == {("grpc 8", "refused")})


def test_giving_up_on_a_server_that_hangs_is_a_failure(ports: Ports, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.create_server((ADDRESSES[1], port)))
        gateway = stack.enter_context(running(tmp_path, ADDRESSES[1:2], ports))
        over_grpc, over_rest = gateway.new_key("grpc"), gateway.new_key("rest")
        with gateway.channel() as channel:
            grpc.channel_ready_future(channel).result(DEADLINE)
            call = channel.unary_unary(PREDICT)
            with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
                call(b"a request", timeout=5, metadata=[("x-api-key", over_grpc)])
            with _begun(gateway, over_rest, "Content-Length: 0") as waiting:
                waiting.settimeout(5)
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
        for key in ("grpc", "rest"):
            until(lambda key=key: _counted(gateway, key) == {("499", "failed")})  # type: ignore[misc]


def test_this_machine_needs_no_key_and_may_do_the_same(gateway: Gateway, one: Recorder) -> None:
    assert gateway.ask("GET", "/v1/models/mnist", local=True).status == 200
    assert gateway.call(PREDICT, local=True)[0] == "OK"
    assert one.asked[-2:] == ["GET /v1/models/mnist", PREDICT]
    assert gateway.ask("GET", "/monitoring/prometheus/metrics", local=True).status == 403
    assert gateway.call("/tensorflow.ProfilerService/Profile", local=True)[0] == "PERMISSION_DENIED"
    assert one.asked[-2:] == ["GET /v1/models/mnist", PREDICT]
    until(lambda: '"key":"local"' in gateway.log)


# Certificates


def test_a_new_certificate_is_shown_without_a_restart(gateway: Gateway) -> None:
    def shown() -> bytes:
        with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as plain:
            with gateway.tls.context().wrap_socket(plain, server_hostname="localhost") as tls:
                certificate = tls.getpeercert(binary_form=True)
                assert certificate is not None
                return certificate

    before = shown()
    with gateway.reloading(), secrets_in(gateway.folder):
        certificates.make()
        until(lambda: shown() != before)
    assert gateway.process.poll() is None


def test_a_caller_without_the_certificate_that_is_asked_for_is_refused(
    ports: Ports, one: Recorder, tmp_path: Path
) -> None:
    pem, private = tmp_path / "caller.pem", tmp_path / "caller.key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    into = ["-nodes", "-subj", "/CN=caller", "-keyout", str(private), "-out", str(pem)]
    subprocess.run([*new, *into], check=True, capture_output=True)
    with running(tmp_path, [one.address], ports) as gateway:
        key = gateway.new_key("alice")
        with gateway.reloading():
            secret_files.replace(gateway.secrets / "client-ca.pem", pem.read_bytes())
        until(lambda: gateway.ask("GET", "/v1/models/mnist", key=key).status == 401)
        before = len(one.asked)
        for scheme in ("https", "grpcs"):
            url = f"{scheme}://localhost:{gateway.tls_port}"
            with DigitClient(url, api_key=key, tls=gateway.tls) as digits:
                with pytest.raises(AccessDenied, match="A client certificate that this gateway"):
                    digits.status()
        assert len(one.asked) == before
        known = Tls(ca=gateway.tls.ca, certificate=pem, key=private)
        assert gateway.ask("GET", "/v1/models/mnist", key=key, tls=known).status == 200
        assert gateway.ask("GET", "/v1/models/mnist", tls=known).status == 401  # and no key
        assert gateway.call(PREDICT, local=True)[0] == "OK"


def test_it_starts_without_secrets_and_takes_them_up(
    ports: Ports, one: Recorder, tmp_path: Path
) -> None:
    with running(tmp_path, [one.address], ports, secrets=False) as gateway:
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", gateway.tls_port), DEADLINE) as plain:
            with blind.wrap_socket(plain) as tls:
                tls.sendall(b"GET /v1/models/mnist HTTP/1.0\r\nx-api-key: dk_1\r\n\r\n")
                assert tls.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        assert "made one that no client trusts" in gateway.log
        with secrets_in(gateway.folder):
            certificates.make()
        until(lambda: _is_trusted(gateway))
        key = gateway.new_key("alice")
        assert gateway.ask("GET", "/v1/models/mnist", key=key).status == 200


def _is_trusted(gateway: Gateway) -> bool:
    with contextlib.suppress(ssl.SSLError):
        return gateway.ask("GET", "/healthz").status == 200
    return False


def test_a_mistake_in_a_file_changes_nothing(gateway: Gateway, key: str) -> None:
    path = gateway.secrets / "keys.conf"
    good = path.read_bytes()
    before = gateway.log.count("[emerg]")
    secret_files.replace(path, good + b"what is this")
    until(lambda: gateway.log.count("[emerg]") > before)
    assert gateway.ask("GET", "/v1/models/mnist", key=key).status == 200
    secret_files.replace(path, good)
    gateway.revoke("alice")
    until(lambda: gateway.ask("GET", "/v1/models/mnist", key=key).status == 401)


@pytest.mark.parametrize("file", ["nginx.conf", "server.key", "client-ca.pem"])
def test_what_is_revoked_beside_a_mistake_is_so_once_the_mistake_is_mended(
    gateway: Gateway, file: str
) -> None:
    key = gateway.new_key("dave")
    path = (gateway.folder / "gateway" if file == "nginx.conf" else gateway.secrets) / file
    good = path.read_bytes() if path.exists() else None
    before = gateway.log.count("[emerg]")
    secret_files.replace(path, b"what is this")
    with secrets_in(gateway.folder):
        keys.revoke("dave")
    until(lambda: gateway.log.count("[emerg]") > before)
    time.sleep(3)  # it is tried again each second, and told once
    assert gateway.log.count("[emerg]") == before + 1
    assert gateway.ask("GET", "/v1/models/mnist", key=key).status == 200
    path.unlink()
    if good is not None:
        secret_files.replace(path, good)
    until(lambda: gateway.ask("GET", "/v1/models/mnist", key=key).status == 401)


# Replicas


@pytest.fixture
def three(ports: Ports, one: Recorder) -> Iterator[list[Recorder]]:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(recording(address, ports)) for address in ADDRESSES[1:]]
        yield [one, *others]


def test_replicas_share_the_requests_and_come_and_go(
    three: list[Recorder], ports: Ports, tmp_path: Path
) -> None:
    with running(tmp_path, ADDRESSES[:1], ports) as gateway:

        def asked() -> list[int]:
            before = [len(replica.asked) for replica in three]
            for _ in range(12):
                assert gateway.ask("GET", "/v1/models/mnist", local=True).status == 200
                assert gateway.call(PREDICT, local=True)[0] == "OK"
            return [len(replica.asked) - each for replica, each in zip(three, before, strict=True)]

        assert asked() == [24, 0, 0]
        gateway.replicas(*ADDRESSES)
        until(lambda: min(asked()) > 0)
        gateway.replicas()  # a name that does not resolve says nothing
        assert sum(asked()) == 24
        gateway.replicas(*ADDRESSES[1:])
        until(lambda: asked()[0] == 0)


def test_a_dead_replica_is_left_out_and_no_call_fails(
    one: Recorder, ports: Ports, tmp_path: Path
) -> None:
    nobody = ADDRESSES[2]
    with running(tmp_path, [one.address, nobody], ports) as gateway:
        before = len(one.asked)
        for _ in range(10):
            assert gateway.ask("POST", PREDICT_OVER_REST, b"{}", local=True).status == 200
            assert gateway.call(PREDICT, b"a request", local=True)[0] == "OK"
        assert len(one.asked) - before == 20
        gateway.ask("GET", "/v1/models/mnist", local=True)
        until(lambda: f'"upstream":"{nobody}:{ports[1]}, {one.address}:{ports[1]}"' in gateway.log)


@pytest.mark.parametrize("replicas", [[], [ADDRESSES[2]], ADDRESSES[1:]])
def test_when_no_replica_answers_callers_are_told_to_come_again(
    replicas: list[str], ports: Ports, tmp_path: Path
) -> None:
    with running(tmp_path, replicas, ports) as gateway:
        key = gateway.new_key("alice")
        answer = gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=key)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "No server answers" in json.loads(answer.body)["error"]
        code, metadata = gateway.call(PREDICT, key=key)
        assert (code, metadata["retry-after"]) == ("UNAVAILABLE", "1")
        assert gateway.ask("GET", "/").status == 200


def test_stopping_waits_for_what_is_under_way(ports: Ports, tmp_path: Path) -> None:
    with socket.create_server((ADDRESSES[1], ports[1])) as server:
        with running(tmp_path, ADDRESSES[1:2], ports) as gateway:
            request = b"GET /v1/models/mnist HTTP/1.1\r\nHost: gateway\r\n\r\n"
            with socket.create_connection(("127.0.0.1", gateway.rest_port), DEADLINE) as caller:
                caller.sendall(request)
                replica, _ = server.accept()
                with replica:
                    gateway.process.send_signal(signal.SIGQUIT)
                    until(lambda: not _is_open(gateway.rest_port))
                    assert gateway.process.poll() is None
                    replica.recv(1 << 16)
                    replica.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                assert caller.recv(1 << 16).endswith(b"done")
            assert gateway.process.wait(DEADLINE) == 0
            assert '"status":200' in gateway.log.splitlines()[-1]


def _is_open(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


# The client and a real server


@pytest.fixture(scope="module")
def real(published: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serve(published.path.parent) as server:
        grpc_port, rest_port = (
            urlsplit(url).port or 0 for url in (server.grpc_url, server.rest_url)
        )
        folder = tmp_path_factory.mktemp("real")
        with running(folder, ["127.0.0.1"], (grpc_port, rest_port)) as gateway:
            yield gateway


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_client_classifies_through_the_door(
    real: Gateway, published: Version, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{real.tls_port}"
    key = real.new_key(f"client-{scheme}")
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]

    async def classify() -> Classification:
        async with AsyncDigitClient(url, api_key=key, tls=real.tls) as digits:
            return await digits.classify(images)

    with DigitClient(url, api_key=key, tls=real.tls) as digits:
        digits.wait_until_ready()
        for answer in (digits.classify(images), asyncio.run(classify())):
            np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
        assert digits.metadata().version == digits.status()[0].version
        many = np.resize(images, (1_000, 28, 28))
        np.testing.assert_array_equal(digits.classify(many).digits[: len(images)], answer.digits)
    with DigitClient(url, tls=real.tls) as stranger:
        with pytest.raises(AccessDenied):
            stranger.classify(images)
