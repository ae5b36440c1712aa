from __future__ import annotations

from typing import Any

import pytest

from tfserving_client import InvalidInput, Tls
from tfserving_client.call.target import Target, parse

TLS = Tls()


def _grpc(url: str, host: str, port: int, **more: Any) -> Target:
    return Target(url, grpc=True, host=host, port=port, **more)


def _rest(url: str, host: str, port: int, **more: Any) -> Target:
    return Target(url, grpc=False, host=host, port=port, **more)


@pytest.mark.parametrize(
    ("url", "target", "address"),
    [
        ("grpc://localhost", _grpc("grpc://localhost", "localhost", 8500), "localhost:8500"),
        ("grpc://A.b:1234", _grpc("grpc://A.b:1234", "a.b", 1234), "a.b:1234"),
        ("grpc://a_b:65535", _grpc("grpc://a_b:65535", "a_b", 65535), "a_b:65535"),
        ("grpc://a.:", _grpc("grpc://a.:", "a.", 8500), "a.:8500"),
        ("grpcs://a.b", _grpc("grpcs://a.b", "a.b", 443, tls=TLS), "a.b:443"),
        ("grpc://[::1]:85", _grpc("grpc://[::1]:85", "::1", 85), "[::1]:85"),
        ("grpc://[fe80::1%eth0]", _grpc("grpc://[fe80::1%eth0]", "fe80::1%eth0", 8500),
         "[fe80::1%eth0]:8500"),
        ("http://localhost/", _rest("http://localhost/", "localhost", 8501), "localhost:8501"),
        ("https://a.b/x/y/", _rest("https://a.b/x/y/", "a.b", 443, tls=TLS, prefix="/x/y"),
         "a.b:443"),
        ("dns:///name", _grpc("dns:///name", "name", 8500, by_dns=True), "dns:///name:8500"),
        ("dns:///name:99", _grpc("dns:///name:99", "name", 99, by_dns=True), "dns:///name:99"),
        ("unix:///run/a b", Target("unix:///run/a b", grpc=True, host="localhost",
                                   socket="/run/a b"), "unix:/run/a b"),
        ("grpc+unix:///s", Target("grpc+unix:///s", grpc=True, host="localhost", socket="/s"),
         "unix:/s"),
        ("http+unix:///s", Target("http+unix:///s", grpc=False, host="localhost", socket="/s"),
         "unix:/s"),
    ],
)  # fmt: skip
def test_one_server(url: str, target: Target, address: str) -> None:
    assert parse(url) == (target,)
    assert target.address == address


def test_several_hosts_share_what_is_not_theirs() -> None:
    assert parse("https://a:1,b,[::1]:3/digits") == (
        _rest("https://a:1/digits", "a", 1, tls=TLS, prefix="/digits"),
        _rest("https://b/digits", "b", 443, tls=TLS, prefix="/digits"),
        _rest("https://[::1]:3/digits", "::1", 3, tls=TLS, prefix="/digits"),
    )
    assert [target.url for target in parse("grpc://a:8500,b:8501")] == [
        "grpc://a:8500", "grpc://b:8501",
    ]  # fmt: skip


def test_each_of_several_hosts_is_reached_by_its_own_url() -> None:
    for target in parse("grpcs://a:1,b,[::1]:3", TLS):
        assert parse(target.url, TLS) == (target,)


def test_certificates_go_with_encrypted_connections_only() -> None:
    for url in ("grpcs://a", "https://a", "dns:///a", "unix:///a", "http+unix:///a"):
        assert parse(url, TLS)[0].tls is TLS
    assert parse("dns:///a", TLS)[0].port == 443
    for url in ("grpc://a", "http://a,b"):
        assert {target.tls for target in parse(url)} == {None}
        with pytest.raises(InvalidInput, match=r"without TLS, and tls is given; use (grpc|http)s:"):
            parse(url, TLS)


@pytest.mark.parametrize("tls", [True, 5, "ca.pem", {}])
def test_certificates_of_another_type_are_refused(tls: Any) -> None:
    with pytest.raises(InvalidInput, match="tls is a"):
        parse("grpcs://a", tls)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8500", "ftp://a", "grpc://", "grpc:a", "grpc://a:b", "grpc://a:70000",
     "grpc://a:0", "grpc://a:-1", "grpc://a/path", "http://user:secret@a", "http://@a",
     "http://a?x=1", "http://a#x", "http://[::1", "http://a b:1", "http://h\udcff/", "http://ü",
     "grpc://a,", "grpc://,a", "grpc://a,,b", "grpc://a,grpc://b", "grpc://a..b", "grpc://.",
     "http://" + "a" * 64, "grpc://a\n", "grpc://\tlocal\nhost", "unix://", "unix:///", "unix://a/b",
     "unix:///a\0b", "unix:///\udcff", "dns://8.8.8.8/a", "dns:///", "dns:///a/b", "dns:///a@b",
     "http://a/ü", "http://a/b c", "http://a/b?c", "http://a/b#c", "grpc://[::1", "grpc://::1",
     "x" * 10**6, None, 5, b"grpc://a", ["grpc://a"], ("grpc://a",)],
    ids=lambda url: repr(url)[:40],
)  # fmt: skip
def test_other_urls_are_refused(url: Any) -> None:
    with pytest.raises(InvalidInput, match="expected grpc://"):
        parse(url)


def test_a_password_in_a_url_is_not_told() -> None:
    with pytest.raises(InvalidInput, match="headers=") as refusal:
        parse("https://user:secret@a/prefix")
    assert "secret" not in str(refusal.value)


def test_dns_finds_the_addresses_of_one_name() -> None:
    with pytest.raises(InvalidInput, match="one name after dns:///"):
        parse("dns:///a,b")
