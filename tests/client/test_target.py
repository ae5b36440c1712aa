from __future__ import annotations

from typing import Any

import pytest

from client import InvalidInput
from client.target import Target, parse


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc://localhost", Target("localhost", 8500, grpc=True, tls=False)),
        ("grpc://a.b:1234", Target("a.b", 1234, grpc=True, tls=False)),
        ("grpcs://a.b", Target("a.b", 443, grpc=True, tls=True)),
        ("http://localhost/", Target("localhost", 8501, grpc=False, tls=False)),
        ("https://a.b/digits/", Target("a.b", 443, grpc=False, tls=True, prefix="/digits")),
        ("grpc://[::1]:8500", Target("::1", 8500, grpc=True, tls=False)),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert parse(url) == target


def test_ipv6_addresses_keep_their_brackets() -> None:
    assert parse("grpc://[::1]:8500").address == "[::1]:8500"


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8500", "ftp://a", "grpc://", "grpc://a:b", "grpc://a:70000", "grpc://a/path",
     "http://user:secret@a", "http://a?x=1", "http://a#x", "http://[::1", "http://a b:1",
     "http://h\udcff/", None, 5],
)  # fmt: skip
def test_other_urls_are_refused(url: Any) -> None:
    with pytest.raises(InvalidInput, match="expected grpc://"):
        parse(url)
