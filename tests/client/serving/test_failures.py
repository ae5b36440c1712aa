"""What goes wrong has its class and says so: over both protocols, with threads and with asyncio."""

from __future__ import annotations

import json
from collections.abc import Callable

import grpc
import pytest

from tests.client.conftest import (
    IMAGES,
    ONCE,
    ROWS,
    ScriptedGrpc,
    ScriptedHttp,
    Server,
    Shell,
    grpc_prediction,
)
from tfserving_client import (
    AccessDenied,
    BadResponse,
    CallError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Rejected,
    ServerFailed,
    Unreachable,
)
from tfserving_client.grpc import wire as grpc_wire
from tfserving_client.rest import wire as rest_wire

# What each status means to a caller, protocol by protocol.
KINDS: dict[int | grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.UNKNOWN: ServerFailed,
    grpc.StatusCode.INVALID_ARGUMENT: Rejected,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: ServerFailed,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: Rejected,
    grpc.StatusCode.ABORTED: ServerFailed,
    grpc.StatusCode.OUT_OF_RANGE: Rejected,
    grpc.StatusCode.UNIMPLEMENTED: BadResponse,
    grpc.StatusCode.INTERNAL: ServerFailed,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DATA_LOSS: ServerFailed,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    400: Rejected, 401: AccessDenied, 403: AccessDenied, 404: NotFound, 408: DeadlineExceeded,
    409: ServerFailed, 413: Rejected, 429: Overloaded, 499: ServerFailed, 500: ServerFailed,
    501: Rejected, 502: Unreachable, 503: Unreachable, 504: DeadlineExceeded,
}  # fmt: skip


# Section "status code mapping" of the server's REST interface: all it can answer with.
SERVER_STATUSES = {400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504}


def test_every_status_is_mapped() -> None:
    grpcs = {status for status in KINDS if isinstance(status, grpc.StatusCode)}
    assert grpcs == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert set(grpc_wire.ERRORS) == {status.name for status in grpcs}
    assert set(rest_wire.ERRORS) == set(KINDS) - grpcs >= SERVER_STATUSES


def _fail(server: Server, status: int | grpc.StatusCode) -> None:
    if isinstance(server, ScriptedHttp):
        assert isinstance(status, int)
        server.say(b'{"error": "the server\'s words"}', status)
        return

    def fail(_: str, __: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(status, "the server's words")
        raise AssertionError

    server.behaviour = fail


@pytest.mark.parametrize(
    ("scheme", "status"),
    [("http" if isinstance(status, int) else "grpc", status) for status in KINDS],
    indirect=["scheme"],
)
def test_failures_have_their_class_the_servers_words_and_what_was_asked_of_whom(
    shell: Shell, server: Server, status: int | grpc.StatusCode
) -> None:
    _fail(server, status)
    with shell(server.url, model="letters", policy=ONCE) as digits:
        for options, words in (({"version": 3}, "version 3"), ({"label": "new"}, "label 'new'")):
            with pytest.raises(CallError) as failure:
                digits.classify(IMAGES / 255, **options)
            error = failure.value
            assert type(error) is KINDS[status]
            number = status if isinstance(status, int) else status.name
            for part in (
                "model 'letters'", words, "signature 'predict_images'", server.url,
                "the server's words", KINDS[status].advice,
            ):  # fmt: skip
                assert part in str(error)
            assert error.server_text.endswith(f"{number} the server's words")
        for verb in (digits.status, digits.metadata):
            with pytest.raises(KINDS[status], match="the server's words"):
                verb()
    assert len(server.calls) == 4


@pytest.mark.parametrize("status", [200, 404])
def test_another_program_on_the_port_is_a_bad_response(
    shell: Shell, http_server: ScriptedHttp, status: int
) -> None:
    http_server.status, http_server.body = status, b"<html>a shop</html>"
    with shell(http_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b'{"outputs": null}', b'{"outputs": {}}', b'{"outputs": [[1, 2]]}',
     b'{"outputs": {"probabilities": [[0.1], [0.2, 0.3]]}}', b'{"outputs"', b"[" * 200_000,
     *(json.dumps({"outputs": {"probabilities": p, "digits": d}}).encode() for p, d in [
         ([["a"] * 10] * 2, [1, 2]), ([[None] * 10] * 2, [1, 2]),
         ([[float("nan")] * 10] * 2, [1, 2]),
         ([[7.0] * 10] * 2, [1, 2]), ([[True] * 10] * 2, [1, 2]), ([[10**400] * 10] * 2, [1, 2]),
         (ROWS, [1]), (ROWS, [[1], [2]]), (ROWS, [1, 99]), (ROWS, [1.7, 2]), (ROWS, ["x", 1]),
         (ROWS, None)])],
)  # fmt: skip
def test_unreadable_rest_answers_are_bad_responses(
    shell: Shell, http_server: ScriptedHttp, body: bytes
) -> None:
    http_server.body = body
    with shell(http_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"", grpc_prediction(b"\x09\x00")[:-20]])
def test_unreadable_grpc_answers_are_bad_responses(
    shell: Shell, grpc_server: ScriptedGrpc, body: bytes
) -> None:
    grpc_server.behaviour = lambda *_: body
    with shell(grpc_server.url) as digits, pytest.raises(BadResponse):
        digits.classify(IMAGES)


def test_no_server_is_a_connection_error(shell: Shell, scheme: str, closed_port: int) -> None:
    with shell(f"{scheme}://127.0.0.1:{closed_port}") as digits:
        with pytest.raises(Unreachable) as failure:
            digits.classify(IMAGES)
        assert isinstance(failure.value, ConnectionError)
        assert not digits.ready()


def test_a_server_that_never_answers_is_a_timeout(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"{scheme}://127.0.0.1:{raw_server(None)}", timeout=0.2) as digits:
        with pytest.raises(TimeoutError):
            digits.classify(IMAGES)
        assert not digits.ready()


def test_an_answer_that_drips_is_a_timeout(shell: Shell, http_server: ScriptedHttp) -> None:
    """Each piece comes in time; the whole does not."""
    http_server.body, http_server.pause = b"x" * 1000, 0.05
    with shell(http_server.url) as digits, pytest.raises(DeadlineExceeded):
        digits.status(timeout=0.3)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_server_that_dies_in_mid_call_is_a_connection_error(
    shell: Shell, answer: bytes, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"http://127.0.0.1:{raw_server(answer)}") as digits:
        with pytest.raises(Unreachable):
            digits.classify(IMAGES)


def test_garbage_for_http_is_a_bad_response(
    shell: Shell, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"http://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)


def test_garbage_for_grpc_is_a_bad_response(
    shell: Shell, raw_server: Callable[[bytes | None], int]
) -> None:
    with shell(f"grpc://127.0.0.1:{raw_server(b'SSH-2.0 hello' * 9)}") as digits:
        with pytest.raises(BadResponse):
            digits.classify(IMAGES)
