from __future__ import annotations

import numpy as np
import pytest

from tests.client.conftest import ONCE, Pems, Serve, Shell, mine
from tfserving_client import InvalidInput, Tls, Unreachable

IMAGE = np.full((28, 28), 5, np.uint8)


@pytest.mark.parametrize("mutual", [False, True])
def test_whoever_is_trusted_is_served(shell: Shell, serve: Serve, pems: Pems, mutual: bool) -> None:
    with serve(mutual) as (server, url):
        server.see()
        tls = mine(pems) if mutual else Tls(ca=pems["ours"])
        many = np.repeat(IMAGE[None], 8000, axis=0)
        with shell(url, tls=tls, policy=ONCE) as digits:
            for images in (IMAGE, many, IMAGE):
                assert set(digits.classify(images).digits) == {5}


@pytest.mark.parametrize("ca", ["theirs", None])
def test_a_server_that_an_unknown_authority_signed_is_unreachable(
    shell: Shell, serve: Serve, pems: Pems, ca: str | None
) -> None:
    with serve(False) as (server, url):
        tls = Tls(ca=pems[ca]) if ca else None
        with shell(url, tls=tls, policy=ONCE) as digits:
            with pytest.raises(Unreachable, match="certificate is not trusted"):
                digits.classify(IMAGE)
        assert server.calls == []


@pytest.mark.parametrize("whose", [None, "theirs"])
def test_a_client_without_the_certificate_that_is_asked_for_is_turned_away(
    shell: Shell, serve: Serve, pems: Pems, whose: str | None
) -> None:
    with serve(True) as (server, url):
        tls = mine(pems, whose) if whose else Tls(ca=pems["ours"])
        with shell(url, tls=tls, policy=ONCE) as digits:
            for _ in range(2):
                with pytest.raises(Unreachable):
                    digits.classify(IMAGE)
        assert server.calls == []


def test_a_name_that_is_not_the_certificates_is_unreachable(
    shell: Shell, serve: Serve, pems: Pems
) -> None:
    with serve(False) as (server, url):
        with shell(
            url.replace("127.0.0.1", "localhost"), tls=Tls(pems["ours"]), policy=ONCE
        ) as digits:
            with pytest.raises(Unreachable):
                digits.status()
        assert server.calls == []


@pytest.mark.parametrize(
    ("ca", "certificate", "key"),
    [
        ("missing", None, None),
        ("garbage", None, None),
        ("empty", None, None),
        ("ours-key", None, None),
        ("ours", "missing", "missing"),
        ("ours", "garbage", "ours-client-key"),
        ("ours", "ours-client", "garbage"),
        ("ours", "ours-client", "theirs-client-key"),
        ("ours", "ours-client", "locked-key"),
        ("ours", "ours-client", None),
        ("ours", None, "ours-client-key"),
    ],
)
def test_files_that_cannot_be_used_are_refused_when_made(
    pems: Pems, ca: str, certificate: str | None, key: str | None
) -> None:
    with pytest.raises(InvalidInput, match="tls "):
        Tls(pems[ca], certificate and pems[certificate], key and pems[key])


@pytest.mark.parametrize(
    ("ca", "reason"), [("garbage", "no PEM of a certificate"), ("missing", "No such file or dir")]
)
def test_the_refusal_of_a_file_says_why(pems: Pems, ca: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^tls files \S+ cannot be used: {reason}"):
        Tls(pems[ca])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_certificates_without_tls_are_refused(shell: Shell, pems: Pems, protocol: str) -> None:
    with pytest.raises(InvalidInput, match=f"use {protocol}s://"):
        shell(f"{protocol}://localhost", tls=mine(pems))
