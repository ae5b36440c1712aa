"""What an error says: one sentence, the cause first, and how the README words it."""

from __future__ import annotations

import contextlib
import pickle
import re
import shutil
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.client.call.test_tls import Pems, _mine, pems
from tests.client.conftest import (
    ONCE,
    ScriptedGrpc,
    ScriptedHttp,
    Server,
    Shell,
    serve_grpc,
    serve_http,
    talk,
)
from tfserving_client import (
    AsyncServingClient,
    CallError,
    DigitClient,
    InvalidInput,
    Overloaded,
    Policy,
    ServingClient,
    Tls,
    Unreachable,
)
from tfserving_client.errors import CallContext

__all__ = ["pems"]
README = Path(__file__).parents[2] / "client" / "README.md"
IMAGE = np.full((28, 28), 5, np.uint8)
PATIENT = Policy(attempts=4, timeout=30)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")

NOT_TRUSTED = "the server's certificate is not trusted; pass tls=Tls(ca=…), on the command line"
OTHER_NAME = "the server's certificate is for another name than the URL's; use a name that is in"
ASKED_FOR = "the server asks for a certificate of yours, signed by an authority that it trusts"
PLAIN_HTTP = "this port speaks plain HTTP, without TLS; use http://"
PLAIN_TEXT = "this port speaks plain text, without TLS; use grpc://"
HUNG_UP = "the server hung up without an answer; if it asks for a certificate of yours, pass"
REFUSED = "the connection was refused; is the server up and the port right?"


def _said(digits: Any, call: Callable[[Any], object] | None = None) -> CallError:
    """The error of a call; whatever it is, it is one sentence without the protocols' own words."""
    with pytest.raises(CallError) as failure:
        call(digits) if call else digits.classify(IMAGE)
    text = str(failure.value)
    assert "\n" not in text
    assert not re.search(r"UNAVAILABLE|UNKNOWN|backends|ipv[46]:|SSL|Errno|\{\{", text), text
    assert text.startswith(failure.value.cause)
    return failure.value


@contextlib.contextmanager
def _tls_server(scheme: str, pems: Pems, *, mutual: bool = False) -> Iterator[int]:
    names = ("ours-server-key", "ours-server", "ours")
    key, certificate, ca = (pems[name].read_bytes() for name in names)
    if scheme.startswith("grpc"):
        tls = grpc.ssl_server_credentials([(key, certificate)], ca if mutual else None, mutual)
        with serve_grpc(tls=tls) as server:
            yield server.port
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pems["ours-server"], pems["ours-server-key"])
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pems["ours"])
    with serve_http(tls=context) as http:
        yield http.port


@needs_openssl
@pytest.mark.parametrize("protocol", ["grpcs", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("ca", [None, "theirs"])
def test_a_certificate_that_is_not_trusted(
    shell: Shell, pems: Pems, protocol: str, host: str, ca: str | None
) -> None:
    """Of localhost's addresses ::1 refuses, and gRPC tells of whichever it tried last."""
    tls = Tls(ca=pems[ca]) if ca else None
    with (
        _tls_server(protocol, pems) as port,
        shell(f"{protocol}://{host}:{port}", tls=tls, policy=PATIENT) as digits,
    ):
        error = _said(digits)
        assert str(error).startswith(NOT_TRUSTED)
        assert (type(error), error.attempts) == (Unreachable, 1)
        assert "CERTIFICATE_VERIFY_FAILED" in error.server_text
        for ask in (digits.ready, digits.wait_until_ready):  # neither will waiting change it
            with pytest.raises(Unreachable, match="not trusted"):
                ask()


@needs_openssl
@pytest.mark.parametrize("protocol", ["grpcs", "https"])
def test_a_certificate_for_another_name(shell: Shell, pems: Pems, protocol: str) -> None:
    with (
        _tls_server(protocol, pems) as port,
        shell(f"{protocol}://localhost:{port}", tls=Tls(pems["ours"])) as digits,
    ):
        assert str(_said(digits)).startswith(OTHER_NAME)


@needs_openssl
def test_a_certificate_that_is_asked_for(shell: Shell, pems: Pems) -> None:
    """The server says so and hangs up, so the words may be lost on the way."""
    for protocol in ("https", "grpcs"):
        with _tls_server(protocol, pems, mutual=True) as port:
            for tls in (Tls(pems["ours"]), _mine(pems, "theirs")):
                with shell(f"{protocol}://127.0.0.1:{port}", tls=tls, policy=ONCE) as digits:
                    said = str(_said(digits))
                    assert said.startswith((ASKED_FOR, HUNG_UP))
                    assert "pass tls=Tls(certificate=…, key=…)" in said


@pytest.mark.parametrize(("protocol", "sentence"), [("https", PLAIN_HTTP), ("grpcs", PLAIN_TEXT)])
def test_tls_on_a_plain_port(
    shell: Shell, http_server: ScriptedHttp, protocol: str, sentence: str
) -> None:
    with shell(f"{protocol}://127.0.0.1:{http_server.port}", policy=PATIENT) as digits:
        error = _said(digits)
        assert str(error).startswith(sentence)
        assert error.attempts == 1


@needs_openssl
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_plain_text_on_a_tls_port(shell: Shell, pems: Pems, protocol: str) -> None:
    with (
        _tls_server(f"{protocol}s", pems) as port,
        shell(f"{protocol}://127.0.0.1:{port}", policy=ONCE) as digits,
    ):
        said = str(_said(digits))
        assert said.startswith("the server hung up without an answer; if this port speaks TLS, use")
        assert f"use {protocol}s:// (" in said


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "this port speaks TLS; use https://"),
        (b"\0\0\x12\4\0\0\0\0\0", "this port speaks gRPC; use grpc://, or REST's port"),
        (b"SSH-2.0 hello", "what answers on this port is not HTTP; is the port right?"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
         "what answered is not TensorFlow Serving, but something that says HTTP 404; are the port"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 58\r\n\r\n"
         b"<html>The plain HTTP request was sent to HTTPS port</html>",
         "this port speaks TLS; use https://"),
    ],
)  # fmt: skip
def test_what_answers_on_another_port_over_rest(
    shell: Shell, raw_server: Callable[[bytes | None], int], answer: bytes, sentence: str
) -> None:
    with shell(f"http://127.0.0.1:{raw_server(answer)}", policy=ONCE) as digits:
        assert str(_said(digits)).startswith(sentence)


def test_grpc_on_rests_port(shell: Shell, http_server: ScriptedHttp) -> None:
    with shell(f"grpc://127.0.0.1:{http_server.port}", policy=ONCE) as digits:
        assert str(_said(digits)).startswith("this port does not speak gRPC; for REST use http://")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_listens(shell: Shell, scheme: str, host: str, closed_port: int) -> None:
    with shell(f"{scheme}://{host}:{closed_port}") as digits:
        error = _said(digits)
        assert str(error).startswith(REFUSED)
        assert error.attempts == 4  # a server that starts may open it


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_name_that_nobody_has(shell: Shell, protocol: str) -> None:
    with shell(f"{protocol}://no-such-name.invalid", policy=ONCE) as digits:
        said = str(_said(digits))
        assert said.startswith("the name of the host is not known here; is it spelled right?")


@pytest.mark.parametrize("prefix", ["unix", "http+unix"])
def test_a_socket_that_is_not_there(shell: Shell, prefix: str, tmp_path: Path) -> None:
    with shell(f"{prefix}://{tmp_path}/none", policy=ONCE) as digits:
        assert str(_said(digits)).startswith("there is no such socket; is the server up and the")


def test_a_server_that_is_silent(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"{scheme}://127.0.0.1:{raw_server(None)}", timeout=0.2) as digits:
        said = str(_said(digits))
        assert said.startswith("no answer came in time; raise timeout=, or ask for less at once")


def test_a_connection_that_breaks(shell: Shell, raw_server: Callable[[bytes | None], int]) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"
    with shell(f"http://127.0.0.1:{raw_server(cut)}", policy=ONCE) as digits:
        assert str(_said(digits)).startswith("the connection broke (model")


def _refuse(server: Server, code: grpc.StatusCode, status: int, text: str) -> None:
    """Fail as TensorFlow Serving does, with its words."""
    if isinstance(server, ScriptedHttp):
        body = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        body = body.replace("\t", "\\t")
        server.say(b'{"error": "%b"}' % body.encode(), status)
        return

    def abort(_: str, __: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, text)
        raise AssertionError

    server.behaviour = abort


NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("code", "status", "text", "sentence"),
    [
        (NOT_FOUND, 404, "Servable not found for request: Latest(mnist)",
         "no version of model 'mnist' is loaded; is model= right? status() tells what is still"),
        (NOT_FOUND, 404, "Servable not found for request: Specific(mnist, 9)",
         "version 9 of model 'mnist' is not loaded; status() lists the versions that are"),
        (NOT_FOUND, 404, "Could not find any versions of model mnist",
         "the server has no model 'mnist'; pass as model= what the server's configuration names"),
        (NOT_FOUND, 404, "Could not find version 9 of model mnist",
         "the server has no version 9 of model 'mnist'; status() lists the versions that it has"),
        (INVALID, 400, "Unrecognized servable version label: new",
         "no version of model 'mnist' has the label 'new'; are label= and model= right?"),
        (grpc.StatusCode.FAILED_PRECONDITION, 400, 'Serving signature key "encoded" not found.',
         "model 'mnist' has no signature 'encoded'; metadata() lists those that it has"),
        (INVALID, 400, 'Serving signature name: "encoded" not found in signature def',
         "model 'mnist' has no signature 'encoded'; metadata() lists those that it has"),
        (INVALID, 400, "Malformed request: POST /x/v1/models/mnist",
         "the server knows no path /x/v1/models/mnist; is the path in the URL right?"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "Received message larger than max (5 vs. 4)",
         "the request is larger than the server takes; ask for less at once"),
        (INVALID, 400, "Expects arg[0] to be float but double is provided\n\t [[{{node a/b}}]]",
         "Expects arg[0] to be float but double is provided"),
        (INVALID, 400, "Matrix size-incompatible\n\t [[{{function_node f_1}}{{node a/MatMul}}]]",
         "Matrix size-incompatible; `metadata` lists"),
    ],
)  # fmt: skip
def test_what_the_server_refuses(
    shell: Shell, server: Server, code: grpc.StatusCode, status: int, text: str, sentence: str
) -> None:
    _refuse(server, code, status, text)
    with shell(server.url, policy=ONCE) as digits:
        error = _said(digits, lambda digits: digits.classify(IMAGE / 255))
    assert sentence in str(error)
    assert text in error.server_text


def test_a_full_queue(shell: Shell, server: Server) -> None:
    text = "The batch scheduling queue to which this request was submitted is full"
    _refuse(server, grpc.StatusCode.UNAVAILABLE, 503, text)
    with shell(server.url, policy=ONCE) as digits:
        error = _said(digits)
    assert isinstance(error, Overloaded)
    assert str(error).startswith("the server's queue is full; try again later, or send less")


def test_after_close(shell: Shell, scheme: str, closed_port: int) -> None:
    with shell(f"{scheme}://127.0.0.1:{closed_port}") as digits:
        digits.close()
        assert str(_said(digits)).startswith("this client is closed; make a new one (")


def test_after_a_fork() -> None:
    """`test_fork` shows that it is raised."""
    error = Unreachable(
        CallContext("grpc://a", "m"), "this process was forked after gRPC was used: spawn instead"
    )
    assert str(error).startswith("this process was forked after gRPC was used; spawn instead (")
    assert error.is_permanent


@pytest.mark.parametrize("kind", [ServingClient, AsyncServingClient])
def test_a_client_is_not_pickled_and_shows_what_it_asks(kind: Any) -> None:
    client = kind("grpc://a:1,b:2", model="price", api_key="secret")
    assert repr(client) == f"{kind.__name__}('grpc://a:1,b:2', model='price')"
    with pytest.raises(TypeError, match="cannot be pickled or copied, because it holds connect"):
        pickle.dumps(client)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:8500", "did you mean grpc://localhost:8500?"),
        ("localhost", "did you mean grpc://localhost?"),
        ("models.example.org", "did you mean grpc://models.example.org?"),
        ("[::1]:8500", "did you mean grpc://[::1]:8500?"),
        ("10.0.0.7:8501", "did you mean http://10.0.0.7:8501?"),
        ("a.b/serving", "did you mean http://a.b/serving?"),
        ("grpc://a:1/serving", "and gRPC knows no path; expected grpc://a:1"),
        ("http://a,http://b", "expected http:// once, then host,host"),
        ("http://a:1/v1", "and the client adds /v1 itself; pass http://a:1"),
        ("http://a:1/v1/models/", "and the client adds /v1/models itself; pass http://a:1"),
        ("https://a/x/v1/models/digits:predict",
         "adds /v1/models/digits:predict itself; pass https://a/x and model='digits'"),
    ],
)  # fmt: skip
def test_a_url_that_is_nearly_right(url: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        DigitClient(url)
    assert str(refusal.value).endswith(sentence)


@pytest.mark.parametrize(
    "call",
    [
        lambda digits: digits.classify(IMAGE),
        lambda digits: digits.classify(IMAGE[1:]),
        lambda digits: digits.status(),
        lambda digits: list(digits.classify_many([IMAGE])),
        lambda digits: list(digits.classify_many([IMAGE[1:]])),
    ],
)
@pytest.mark.parametrize("coalesce", [False, True])
def test_a_traceback_is_short(
    scheme: str, closed_port: int, coalesce: bool, call: Callable[[Any], object]
) -> None:
    url = f"{scheme}://127.0.0.1:{closed_port}"
    with DigitClient(url, coalesce=coalesce, policy=ONCE) as digits:
        try:
            call(digits)
        except Exception as error:
            shown = "".join(traceback.format_exception(error))
    assert shown.count("tfserving_client/") <= 4
    assert shown.count("Traceback") == 1  # none of what it came from
    assert shown.count(__file__) == 2


def test_a_text_that_is_not_known_stays_short() -> None:
    error = CallError(CallContext("grpc://a", "m"), "INTERNAL " + "x" * 999)
    assert error.cause == "x" * 300 + "…"


def test_the_readme_words_every_cause_as_the_errors_do() -> None:
    """The table's sentences, against the rows of `causes`."""
    from tfserving_client import causes

    table = README.read_text().partition("### What an error says")[2].partition("\n### ")[0]
    table = " ".join(table.split())
    for row in (row for rows in causes._KNOWN.values() for row in rows):
        first = re.split(r"\{\w*(?:!r)?\}", row.cause)
        missing = [part for part in first if part.strip() and part.strip(" ,") not in table]
        assert not missing, (row.cause, missing)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """The port of an address that takes no connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_silent_address_does_not_eat_the_deadline(
    shell: Shell, http_server: ScriptedHttp, black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305: the next one is tried after a quarter of a second, and both go on."""
    http_server.see()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        for port in (black_hole, http_server.port)
    ]
    with shell("http://name", policy=Policy(attempts=1, timeout=20)) as digits:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert digits.classify(IMAGE).digits.tolist() == [5]
    assert [verb for verb, *_ in http_server.calls] == ["POST"]


def test_a_silent_server_does_not_eat_the_deadline_of_several(
    shell: Shell, server: Server, black_hole: int
) -> None:
    server.see()
    protocol, _, place = server.url.partition("://")
    url = f"{protocol}://127.0.0.1:{black_hole},{place}"
    policy = Policy(attempts=2, timeout=20)
    with shell(url, policy=policy) as digits:
        for _ in range(2):
            assert digits.classify(IMAGE).digits.tolist() == [5]


def _proxy(to: int, answers: list[bytes], *, status: int = 200) -> Callable[[socket.socket], None]:
    """A proxy for which every host is the server at one port of this machine."""

    def serve(connected: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connected.recv(1)
        answers.append(request)
        connected.sendall(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
        if status != 200:
            return
        with socket.create_connection(("127.0.0.1", to)) as onward:
            _copy_both_ways(connected, onward)

    return serve


def _copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    import select

    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_reached_by_a_proxy(
    shell: Shell, server: Server, closed_port: int, monkeypatch: pytest.MonkeyPatch,
    name: str, host: str,
) -> None:  # fmt: skip
    server.see()
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    with shell(server.url.replace("127.0.0.1", host), policy=ONCE) as digits:
        assert digits.classify(IMAGE).digits.tolist() == [5]


@pytest.mark.usefixtures("_no_proxies")
def test_other_hosts_are_reached_by_the_proxy_that_is_named(
    shell: Shell, server: Server, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.see()
    requests: list[bytes] = []
    with talk(_proxy(server.port, requests)) as port:
        monkeypatch.setenv("http_proxy", f"http://me:it%20is@127.0.0.1:{port}")
        with shell(f"{scheme}://far.example:99", policy=ONCE) as digits:
            assert digits.classify(IMAGE).digits.tolist() == [5]
    assert requests[0].startswith(b"CONNECT far.example:99 HTTP/1.")
    assert b"proxy-authorization: basic bwu6axqgaxm=" in requests[0].lower()  # me:it is


@needs_openssl
@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("protocol", ["grpcs", "https"])
def test_tls_goes_through_a_proxy_to_the_servers_own_name(
    shell: Shell, pems: Pems, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    requests: list[bytes] = []
    with (
        _tls_server(protocol, pems) as to,
        talk(_proxy(to, requests)) as port,
        shell(f"{protocol}://far.example", tls=Tls(pems["ours"]), policy=ONCE) as digits,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert str(_said(digits)).startswith(OTHER_NAME)
    assert requests


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_proxy_that_lets_nothing_through_is_named(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch, closed_port: int, is_there: bool
) -> None:
    with talk(_proxy(0, [], status=403)) as port:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{port if is_there else closed_port}")
        with shell(f"{scheme}://far.example", policy=ONCE) as digits:
            said = str(_said(digits))
    assert said.startswith("the proxy that http_proxy names did not let the call through; unset")


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("exempt", ["far.invalid", ".invalid", "a,*", "x, FAR.invalid"])
def test_what_no_proxy_lists_is_reached_directly(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch, closed_port: int, exempt: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("no_proxy", exempt)
    with shell(f"{scheme}://far.invalid", policy=ONCE) as digits:
        assert str(_said(digits)).startswith("the name of the host is not known here")


@pytest.mark.usefixtures("_no_proxies")
def test_a_proxy_of_another_kind_is_refused_and_its_password_not_shown(
    shell: Shell, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "socks5://me:secret@127.0.0.1:1")
    with shell(f"{scheme}://far.example", policy=ONCE) as digits:
        with pytest.raises(InvalidInput, match=r"^http_proxy names no proxy as http://host:port$"):
            digits.status()


def test_the_grpc_server_is_asked_once(grpc_server: ScriptedGrpc) -> None:
    """What is permanent is not tried again, and what may pass is."""
    _refuse(grpc_server, grpc.StatusCode.UNAVAILABLE, 503, "going away")
    with DigitClient(grpc_server.url, policy=PATIENT) as digits:
        assert _said(digits).attempts == 4
