"""The end of a certificate, as the `cryptography` package reads it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from deploy.exporter import certificate
from deploy.exporter.certificate import Certificate, not_after

NOW = datetime.now(UTC).replace(microsecond=0)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def self_signed(key: Key, start: datetime, end: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(start).not_valid_after(end).sign(key, hashes.SHA256())


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()),
                                 rsa.generate_private_key(65537, 2048)])  # fmt: skip
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOW, NOW + timedelta(days=90)),
        (NOW - timedelta(days=90), NOW - timedelta(days=1)),
        (datetime(1999, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        # From 2050 on the time is written with four digits of the year.
        (NOW, datetime(2050, 1, 1, tzinfo=UTC)),
        (NOW, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_the_end_of_its_validity(key: Key, start: datetime, end: datetime) -> None:
    made = self_signed(key, start, end)
    assert not_after(made.public_bytes(serialization.Encoding.DER)) == made.not_valid_after_utc


@contextlib.contextmanager
def gateway(end: datetime, folder: Path, wanted: ssl.VerifyMode = ssl.CERT_NONE) -> Iterator[str]:
    """Shakes hands with whoever comes, with a certificate until `end`; may want one, too."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = self_signed(key, end - timedelta(days=30), end)
    pem = folder / "server.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.verify_mode = wanted
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listener.getsockname()[1]}"

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = listener.accept()
                with contextlib.suppress(OSError), connected:
                    context.wrap_socket(connected, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield place
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize("days", [60, -2])
def test_expired_or_not_it_is_told(days: int, tmp_path: Path, samples: Any) -> None:
    end = NOW + timedelta(days=days)
    with gateway(end, tmp_path) as place:
        eyes = Certificate(place)
        expected = {("digits_certificate_expiry_timestamp_seconds",): end.timestamp()}
        assert samples(eyes) == expected
    assert samples(eyes) == {}


def test_no_certificate_of_its_own_is_needed(tmp_path: Path, samples: Any) -> None:
    with gateway(NOW + timedelta(days=60), tmp_path, ssl.CERT_REQUIRED) as place:
        assert samples(Certificate(place))


def test_a_gateway_that_hangs_is_not_waited_for(
    samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert samples(Certificate(f"127.0.0.1:{silent.getsockname()[1]}")) == {}
