"""The gateway's certificate, and the certificate authority of this bundle that signs it.

Clients trust the authority (`gateway/ca.pem`) once; it signs every later server certificate.
Its key (`ca.key`) is outside the folder that is mounted in the gateway.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.operate.access.secret_files import Folder
from deploy.operate.access.store import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    PRIVATE_KEY,
    Store,
)
from deploy.operate.errors import InputError, Refused

DAYS = 365
# Apple's systems refuse longer lifetimes: https://support.apple.com/103769
MOST_DAYS = 825
_AUTHORITY_DAYS = 3650
_SKEW = timedelta(hours=1)  # a client's clock may be behind
_FOLDER = Folder()
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The server certificate: its hosts, and when it expires (UTC)."""

    hosts: tuple[str, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True


def read(store: Store = _FOLDER) -> Certificate | None:
    """The certificate that the gateway uses; None if there is no file.

    Args:
        store: where it is: this machine's folder, or a cluster.

    Raises:
        Refused: the file is not a certificate.
    """
    found = _load(store, CERTIFICATE)
    return None if found is None else Certificate(_hosts(found), found.not_valid_after_utc)


def make(
    hosts: Sequence[str] = (), *, days: int = DAYS, force: bool = False, store: Store = _FOLDER
) -> Certificate:
    """Create a server certificate, and the authority if there is none; the gateway loads it.

    Args:
        hosts: names and addresses beside the store's own; empty: those of the last certificate.
        days: its lifetime, 1 to 825, counted from an hour ago.
        force: replace existing files and create a new authority, which clients have to trust.
        store: where to write it.

    Raises:
        InputError: a host that is neither a name nor an address, or too many days.
        Refused: the existing certificate is from another authority, or the authority expires before
            the new certificate would.
    """
    if not 1 <= days <= MOST_DAYS:
        raise InputError(f"{days} days: expected 1 to {MOST_DAYS}")
    wanted = [_host(host) for host in hosts]
    files = (AUTHORITY_KEY, AUTHORITY, PRIVATE_KEY, CERTIFICATE)
    return store.alone(lambda: _make(store, wanted, days, force), *files)


def _make(store: Store, wanted: Sequence[x509.GeneralName], days: int, force: bool) -> Certificate:
    try:
        found = _load(store, CERTIFICATE)
    except Refused:
        if not force:
            raise
        found = None
    authority = None if force else _authority(store)
    files: Mapping[str, bytes] = {}
    if not force and authority is None and (there := _there(store)):
        raise Refused(f"{there} was not made here; --force replaces it with a new authority")
    if authority is None:
        authority = _new_authority()
        files = _files(AUTHORITY_KEY, authority.key, AUTHORITY, authority.certificate)
    elif found is not None and not authority.signed(found):
        raise Refused(
            f"{store.called(CERTIFICATE)} was not made here; --force replaces it, "
            "with a new authority"
        )
    if found is not None and not wanted:
        wanted = [_host(host) for host in _hosts(found)]
    names = list(dict.fromkeys([*map(_host, store.hosts()), *wanted]))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _server_certificate(authority, key, names, days)
    if certificate.not_valid_after_utc > authority.certificate.not_valid_after_utc:
        raise Refused(
            f"the authority expires on {authority.certificate.not_valid_after_utc:%Y-%m-%d}, "
            "before the certificate would; --force makes a new one, which clients have to trust"
        )
    # The gateway checks the pair before it loads it, and checks again after the second rename.
    store.write({**files, **_files(PRIVATE_KEY, key, CERTIFICATE, certificate)})
    return Certificate(_hosts(certificate), certificate.not_valid_after_utc)


def _there(store: Store) -> str | None:
    """An existing file that a new authority or its first certificate would overwrite."""
    files = (AUTHORITY_KEY, AUTHORITY, CERTIFICATE)
    return next((store.called(name) for name in files if store.read(name) is not None), None)


def _authority(store: Store) -> _Authority | None:
    pem, certificate = store.read(AUTHORITY_KEY), _load(store, AUTHORITY)
    if certificate is None or pem is None:
        return None
    try:
        key = load_pem_private_key(pem, password=None)
    except (TypeError, ValueError):
        raise Refused(
            f"{store.called(AUTHORITY_KEY)} is not a private key; --force makes a new one"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        return None
    return _Authority(key, certificate)


def _new_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The date in the name distinguishes two of them in a browser's list.
    name = _name(f"digits-serving authority {datetime.now(UTC):%Y-%m-%d}")
    certificate = (
        _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Authority(key, certificate)


def _server_certificate(
    authority: _Authority,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName],
    days: int,
) -> x509.Certificate:
    issuer = authority.certificate
    # What Python 3.13's ssl, Apple's systems and Chromium require of a server certificate.
    return (
        _builder(_name("digits-serving gateway"), issuer.subject, key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - _SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    text = name.lower()
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if len(text) > 253 or not _DNS_NAME.fullmatch(text):
            raise InputError(f"{name!r} is neither a host name nor an IP address") from None
        return x509.DNSName(text)


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _load(store: Store, name: str) -> x509.Certificate | None:
    """The first certificate of a chain; None if there is no file."""
    if (pem := store.read(name)) is None:
        return None
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise Refused(
            f"{store.called(name)} is not a certificate; --force makes a new one"
        ) from None


def _files(
    key_name: str, key: ec.EllipticCurvePrivateKey, name: str, certificate: x509.Certificate
) -> Mapping[str, bytes]:
    """A key and its certificate, as bytes."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {key_name: pem, name: certificate.public_bytes(Encoding.PEM)}
