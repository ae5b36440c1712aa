"""What an error says: one sentence, the cause first, and how the README words it."""

from __future__ import annotations

import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.client.conftest import (
    ONCE,
    Pems,
    ScriptedGrpc,
    ScriptedHttp,
    Serve,
    Server,
    Shell,
    mine,
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

README = Path(__file__).parents[2] / "client" / "README.md"
IMAGE = np.full((28, 28), 5, np.uint8)
PATIENT = Policy(attempts=4, timeout=30)

NOT_TRUSTED = "the server's certificate is not trusted; pass tls=Tls(ca=…), on the command line"
OTHER_NAME = "the server's certificate is for another name than the URL's; use a name that is in"
ASKED_FOR = "the server asks for a client certificate, signed by an authority that it trusts"
PLAIN_HTTP = "this port speaks plain HTTP, without TLS; use http://"
PLAIN_TEXT = "this port speaks plain text, without TLS; use grpc://"
HUNG_UP = "the server hung up without an answer; if it asks for a client certificate, pass"
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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("ca", [None, "theirs"])
def test_a_certificate_that_is_not_trusted(
    shell: Shell, serve: Serve, pems: Pems, host: str, ca: str | None
) -> None:
    """Of localhost's addresses ::1 refuses, and gRPC tells of whichever it tried last."""
    tls = Tls(ca=pems[ca]) if ca else None
    with (
        serve(False) as (_, url),
        shell(url.replace("127.0.0.1", host), tls=tls, policy=PATIENT) as digits,
    ):
        error = _said(digits)
        assert str(error).startswith(NOT_TRUSTED)
        assert (type(error), error.attempts) == (Unreachable, 1)
        assert "CERTIFICATE_VERIFY_FAILED" in error.server_text
        for ask in (digits.ready, digits.wait_until_ready):  # neither will waiting change it
            with pytest.raises(Unreachable, match="not trusted"):
                ask()


def test_a_certificate_for_another_name(shell: Shell, serve: Serve, pems: Pems) -> None:
    with (
        serve(False) as (_, url),
        shell(url.replace("127.0.0.1", "localhost"), tls=Tls(pems["ours"])) as digits,
    ):
        assert str(_said(digits)).startswith(OTHER_NAME)


def test_a_certificate_that_is_asked_for(shell: Shell, serve: Serve, pems: Pems) -> None:
    """The server says so and hangs up, so the words may be lost on the way."""
    with serve(True) as (_, url):
        for tls in (Tls(pems["ours"]), mine(pems, "theirs")):
            with shell(url, tls=tls, policy=ONCE) as digits:
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


def test_plain_text_on_a_tls_port(shell: Shell, serve: Serve) -> None:
    with serve(False) as (_, url), shell(url.replace("s://", "://"), policy=ONCE) as digits:
        said = str(_said(digits))
        assert said.startswith("the server hung up without an answer; if this port speaks TLS, use")
        assert f"use {url.partition(':')[0]}:// (" in said


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "this port speaks TLS; use https://"),
        (b"\0\0\x12\4\0\0\0\0\0", "this port speaks gRPC; use grpc://, or REST's port"),
        (b"SSH-2.0 hello", "what answers on this port is not HTTP; is the port right?"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
         "what answered is not TensorFlow Serving: it says HTTP 404; are the port"),
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
        assert said.startswith("the host name is not known here; is it spelled right?")


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
         "the server has no model 'mnist'; pass as model= the name in the server's configuration"),
        (NOT_FOUND, 404, "Could not find version 9 of model mnist",
         "the server has no version 9 of model 'mnist'; status() lists the versions that it has"),
        (INVALID, 400, "Unrecognized servable version label: new",
         "no version of model 'mnist' has the label 'new'; are label= and model= right?"),
        (grpc.StatusCode.FAILED_PRECONDITION, 400, 'Serving signature key "encoded" not found.',
         "model 'mnist' has no signature 'encoded'; metadata() lists those that it has"),
        (INVALID, 400, 'Serving signature name: "encoded" not found in signature def',
         "model 'mnist' has no signature 'encoded'; metadata() lists those that it has"),
        (INVALID, 400, "No classification inputs found in SignatureDef: inputs {\n key: 'x' }",
         "this signature of model 'mnist' is not made for classification; metadata() lists those"),
        (INVALID, 400, "Expected regression signature method_name to be tensorflow/serving/regress",
         "this signature of model 'mnist' is not made for regression; metadata() lists those that"),
        (INVALID, 400, "Signature input alias: images(feed name: a:0) not found in request and no",
         "input 'images' is missing; metadata() lists the inputs (model"),
        (INVALID, 400, "Malformed request: POST /x/v1/models/mnist",
         "the server does not know the path /x/v1/models/mnist; is the path in the URL right?"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "Received message larger than max (5 vs. 4)",
         "the request is larger than the server takes; ask for less at once"),
        (INVALID, 400, "Expects arg[0] to be float but double is provided\n\t [[{{node a/b}}]]",
         "Expects arg[0] to be float but double is provided; `metadata` lists"),
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
        ("tfserving", "did you mean grpc://tfserving?"),
        ("models.example.org", "did you mean grpc://models.example.org?"),
        ("[::1]:8500", "did you mean grpc://[::1]:8500?"),
        ("10.0.0.7:8501", "did you mean http://10.0.0.7:8501?"),
        ("localhost:8501/v1/models/mnist", "did you mean http://localhost:8501?"),
        ("grpc//a", "did you mean grpc://a?"),
        ("https:/a/x", "did you mean https://a/x?"),
        ("grpc:a:8500", "did you mean grpc://a:8500?"),
        ("grpc:8500", "did you mean grpc://grpc:8500?"),
        ("a.b/serving", "did you mean http://a.b/serving?"),
        ("grpc://a:1/serving", "but a gRPC URL has no path; expected grpc://a:1"),
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


def test_the_grpc_server_is_asked_once(grpc_server: ScriptedGrpc) -> None:
    """What is permanent is not tried again, and what may pass is."""
    _refuse(grpc_server, grpc.StatusCode.UNAVAILABLE, 503, "going away")
    with DigitClient(grpc_server.url, policy=PATIENT) as digits:
        assert _said(digits).attempts == 4
