from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.client.conftest import Server, Shell, serve_grpc, serve_http
from tfserving_client import InvalidInput, Policy, Tls, Unreachable

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

IMAGE = np.full((28, 28), 5, np.uint8)
ONCE = Policy(attempts=1, timeout=30)


@dataclass(frozen=True)
class Pems:
    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Pems:
    """Two authorities, each with the certificate of a server and of a client that it signed."""
    pems = Pems(tmp_path_factory.mktemp("pems"))
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("ours", "theirs"):
        key = ("-keyout", pems[f"{authority}-key"], "-out", pems[authority])
        # Python takes no authority without it, since 3.13.
        usage = ("-addext", "keyUsage=critical,keyCertSign")
        _openssl("req", "-x509", *new_key, *key, *usage, "-subj", f"/CN={authority}", "-days", 2)
        for who in ("server", "client"):
            name = f"{authority}-{who}"
            extensions = pems.folder / "extensions"
            extensions.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid")
            key = ("-keyout", pems[f"{name}-key"], "-out", pems[f"{name}-request"])
            _openssl("req", *new_key, *key, "-subj", f"/CN={name}")
            signed = ("-CA", pems[authority], "-CAkey", pems[f"{authority}-key"], "-CAcreateserial")
            files = ("-in", pems[f"{name}-request"], "-out", pems[name], "-extfile", extensions)
            _openssl("x509", "-req", *files, *signed, "-days", 2)
    _openssl("pkey", "-in", pems["ours-key"], "-out", pems["locked-key"], "-aes128",
             "-passout", "pass:x")  # fmt: skip
    pems["garbage"].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    pems["empty"].write_text("")
    return pems


Serve = Callable[[bool], AbstractContextManager[tuple[Server, str]]]


@pytest.fixture
def serve(scheme: str, pems: Pems) -> Serve:
    """Starts a server with a certificate of ours; True: which asks for one, too."""

    @contextlib.contextmanager
    def serve(mutual: bool) -> Iterator[tuple[Server, str]]:
        names = ("ours-server-key", "ours-server", "ours")
        key, certificate, ca = (pems[name].read_bytes() for name in names)
        if scheme == "grpc":
            tls = grpc.ssl_server_credentials([(key, certificate)], ca if mutual else None, mutual)
            with serve_grpc(tls=tls) as server:
                yield server, f"grpcs://127.0.0.1:{server.port}"
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pems["ours-server"], pems["ours-server-key"])
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(pems["ours"])
        with serve_http(tls=context) as http:
            yield http, f"https://127.0.0.1:{http.port}"

    return serve


def _mine(pems: Pems, whose: str = "ours") -> Tls:
    return Tls(pems["ours"], pems[f"{whose}-client"], pems[f"{whose}-client-key"])


@pytest.mark.parametrize("mutual", [False, True])
def test_whoever_is_trusted_is_served(shell: Shell, serve: Serve, pems: Pems, mutual: bool) -> None:
    with serve(mutual) as (server, url):
        server.see()
        tls = _mine(pems) if mutual else Tls(ca=pems["ours"])
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
        tls = _mine(pems, whose) if whose else Tls(ca=pems["ours"])
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


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_certificates_without_tls_are_refused(shell: Shell, pems: Pems, protocol: str) -> None:
    with pytest.raises(InvalidInput, match=f"use {protocol}s://"):
        shell(f"{protocol}://localhost", tls=_mine(pems))
