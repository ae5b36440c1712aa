"""`python -m deploy certificates`, as the TLS of others sees what it makes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.commands import main
from tfserving_client import Tls


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    monkeypatch.setenv("DEPLOY_SECRETS", str(folder))
    return folder


def _make(*arguments: str) -> None:
    assert main(["certificates", *arguments]) == 0


def _refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["certificates", *arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    return line


def _server(secrets: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((secrets / "gateway" / "server.pem").read_bytes())


def _contents(secrets: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}


@contextlib.asynccontextmanager
async def _listening(folder: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


def _handshake(folder: Path, name: str, trusted: Path | None = None) -> None:
    """Connect by TLS, strictly (as Python 3.13 does by itself), trusting only `ca.pem`."""

    async def run() -> None:
        context = Tls(ca=trusted or folder / "ca.pem").context()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        async with _listening(folder) as port:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=name
            )
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "digits.example.org", "10.0.0.7", "a.b.example"]
)
def test_a_client_that_trusts_the_authority_accepts_every_host(name: str, secrets: Path) -> None:
    _make("--host=digits.example.org", "--host", "10.0.0.7", "--host=*.B.example")
    _handshake(secrets / "gateway", name)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        _handshake(secrets / "gateway", "other.example.org")


def test_openssl_accepts_the_chain(secrets: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    _make()
    folder = secrets / "gateway"
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    done = subprocess.run(
        [*verify, "-CAfile", folder / "ca.pem", folder / "server.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_authoritys_key_stays_with_its_owner(secrets: Path) -> None:
    _make()
    modes = {str(p.relative_to(secrets)): p.stat().st_mode & 0o777 for p in _contents(secrets)}
    assert modes == {
        "ca.key": 0o600,
        "gateway/ca.pem": 0o644,
        "gateway/server.key": 0o644,
        "gateway/server.pem": 0o644,
    }
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_a_renewal_keeps_authority_and_hosts(secrets: Path) -> None:
    _make("--host=digits.example.org", "--days=10")
    before, first = _contents(secrets), _server(secrets)
    _make()
    after, second = _contents(secrets), _server(secrets)
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {"server.key", "server.pem"}
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc > first.not_valid_after_utc
    _handshake(secrets / "gateway", "digits.example.org")
    _make("--host=new.example.org")
    _handshake(secrets / "gateway", "new.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(secrets / "gateway", "digits.example.org")


def test_it_is_valid_as_long_as_asked_and_never_longer_than_apple_allows(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for days in (1, 365, 825):
        _make(f"--days={days}")
        made, now = _server(secrets), datetime.now(UTC)
        assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=days)
        assert made.not_valid_before_utc < now - timedelta(minutes=30) < made.not_valid_after_utc
    before = _contents(secrets)
    assert "expected 1 to 825" in _refused(capsys, 2, "--days=826")
    assert _contents(secrets) == before


def test_what_was_not_made_here_is_written_over_only_by_force(
    secrets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make("--host=digits.example")
    other = tmp_path / "other"
    shutil.copytree(secrets, other)
    _make("--force")  # another authority, for the same hosts
    _handshake(secrets / "gateway", "digits.example")
    for name in ("server.pem", "server.key"):
        shutil.copy(other / "gateway" / name, secrets / "gateway")
    before = _contents(secrets)
    assert "server.pem was not made here" in _refused(capsys, 1)
    (secrets / "ca.key").unlink()
    assert "was not made here" in _refused(capsys, 1, "--host=a.example")
    before.pop(secrets / "ca.key")
    assert _contents(secrets) == before
    _make("--force")
    _handshake(secrets / "gateway", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(secrets / "gateway", "localhost", trusted=other / "gateway" / "ca.pem")


def test_no_certificate_outlives_its_authority(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make()
    key = load_pem_private_key((secrets / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name, now = _server(secrets).issuer, datetime.now(UTC)
    authority = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=20))
        .sign(key, hashes.SHA256())
    )
    (secrets / "gateway" / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    before = _contents(secrets)
    assert "before the certificate would" in _refused(capsys, 1, "--days=21")
    assert _contents(secrets) == before
    _make("--days=19")


@pytest.mark.parametrize("name", ["server.pem", "ca.pem", "../ca.key"])
def test_a_file_that_is_no_pem_is_one_line(
    name: str, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make()
    (secrets / "gateway" / name).write_text("no PEM")
    assert "--force makes a new one" in _refused(capsys, 1)
    _make("--force")
    _handshake(secrets / "gateway", "localhost")


@pytest.mark.parametrize("host", ["", "a b", "-a", "a..b", "a.", "*", "é.example", "a" * 64, "1/2"])
def test_a_host_that_is_neither_name_nor_address_is_bad_input(
    host: str, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repr(host) in _refused(capsys, 2, f"--host={host}")
    assert not secrets.exists()


def test_it_says_how_to_trust_it(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _make()
    said = capsys.readouterr().err
    ca = secrets / "gateway" / "ca.pem"
    assert f"curl --cacert {ca} https://localhost:8443/healthz" in said
    assert f'tls=Tls(ca="{ca}")' in said
