from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tfserving_client import (
    BadResponse,
    CallError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Unreachable,
)
from tfserving_client.errors import CallContext
from tfserving_client.rest.wire import failure

CONTEXT = CallContext("http://here:1", "mnist")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, b'{"error": "no model"}', NotFound, "HTTP 404 no model"),
        (404, b"<html>\n  a  shop", BadResponse, "HTTP 404 <html> a shop"),
        (405, b"no", BadResponse, "HTTP 405 no"),
        (429, b"", Overloaded, "HTTP 429 "),
        (503, b"<html>busy", Unreachable, "HTTP 503 <html>busy"),
        (
            503,
            b'{"error": "The batch scheduling queue to which this request was submitted is full"}',
            Overloaded,
            "HTTP 503 The batch scheduling queue to which this request was submitted is full",
        ),
        (504, b"\xff", DeadlineExceeded, "HTTP 504 \ufffd"),
        (418, b'{"error": "teapot"}', BadResponse, "HTTP 418 teapot"),
        (500, b'{"error": {"deep": 1}}', CallError, "HTTP 500 {'deep': 1}"),
        (500, b"[" * 100_000, CallError, "HTTP 500 " + "[" * 200),
    ],
)
def test_servers_and_proxies_in_their_own_words(
    status: int, body: bytes, kind: type[CallError], words: str
) -> None:
    error = failure(CONTEXT, status, {}, body)
    assert isinstance(error, kind)
    assert error.server_text == words


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), ("", None),
     ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0)],
)  # fmt: skip
def test_the_servers_advice_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert failure(CONTEXT, 503, {"retry-after": value}, b"").retry_after == seconds


def test_a_date_to_come_is_seconds_from_now() -> None:
    headers = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
    assert 90 < (failure(CONTEXT, 503, headers, b"").retry_after or 0) <= 100
