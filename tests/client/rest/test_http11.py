from __future__ import annotations

import h11
import pytest

from tfserving_client.call.target import Target
from tfserving_client.rest.http11 import Conversation, Response

TARGET = Target("http://here:1", grpc=False, host="here", port=1)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Two: a\r\n\r\nthe answer !"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"4\r\nthe \r\n8;x=y\r\nanswer !\r\n0\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\n\r\nthe answer !"


def _asked() -> Conversation:
    conversation = Conversation(TARGET)
    conversation.request("POST", "/v1", {"x-api-key": "secret"}, b"{}")
    return conversation


def _whole(pieces: list[bytes]) -> tuple[Response | None, Conversation]:
    conversation = _asked()
    answers = [conversation.receive(piece) for piece in pieces]
    assert answers[:-1] == [None] * (len(pieces) - 1)
    return answers[-1], conversation


def test_a_request_is_bytes_of_http() -> None:
    sent = Conversation(TARGET).request("POST", "/v1", {"x-api-key": "secret"}, b"{}")
    lines = sent.decode().split("\r\n")
    assert (lines[0], lines[-1]) == ("POST /v1 HTTP/1.1", "{}")
    assert {line.lower() for line in lines[1:-2]} == {
        "host: here:1", "content-type: application/json", "x-api-key: secret", "content-length: 2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "reusable"), [(LENGTH, True), (CHUNKED, True), (OLD, False)]
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_answers_come_in_pieces_of_any_size(answer: bytes, reusable: bool, size: int) -> None:
    pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
    response, conversation = _whole(pieces if reusable else [*pieces, b""])
    assert response is not None
    assert (response.status, response.body) == (200, b"the answer !")
    assert conversation.is_reusable is reusable


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
def test_an_answer_cut_anywhere_is_a_reset(answer: bytes) -> None:
    for cut in range(len(answer)):
        conversation = _asked()
        assert conversation.receive(answer[:cut]) is None if cut else True
        with pytest.raises(ConnectionResetError, match="hung up"):
            conversation.receive(b"")
        assert not conversation.is_reusable


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0", b"\x00\x00\x18\x04", b"<html>", b"HTTP/9 what\r\n\r\n", b"HTTP/1.1 20x OK\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000],
)  # fmt: skip
def test_what_is_not_http_is_told_at_once(answer: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        _asked().receive(answer)


def test_interim_answers_are_passed_over_and_many_headers_kept() -> None:
    many = b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(300))
    response, _ = _whole([b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH[:17] + many + LENGTH[17:]])
    assert response is not None
    assert response.body == b"the answer !"
    assert [response.headers[f"x-{i}"] for i in range(300)] == [str(i) for i in range(300)]


def test_a_connection_carries_one_answer_after_another() -> None:
    conversation = Conversation(TARGET)
    for _ in range(3):
        conversation.request("GET", "/", {}, b"")
        assert conversation.receive(LENGTH) is not None


@pytest.mark.parametrize("more", [b"!", LENGTH])
def test_bytes_after_the_answer_never_begin_the_next(more: bytes) -> None:
    _, conversation = _whole([LENGTH + more])
    assert not conversation.is_reusable
