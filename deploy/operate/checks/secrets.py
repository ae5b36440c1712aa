"""The gateway's keys and certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.operate.access import certificates, keys, secret_files
from deploy.operate.errors import Refused

_READ_BY_OTHERS = 0o004
_FILES = ("keys.conf", "server.pem", "server.key", "client-ca.pem")


def problems() -> Iterator[str]:
    """What nginx would refuse or cannot read: its container runs as another user."""
    folder = secret_files.gateway()
    for path in (folder / name for name in _FILES):
        try:
            if path.exists() and not path.stat().st_mode & _READ_BY_OTHERS:
                yield f"{path} cannot be read by the gateway's user; run `chmod o+r {path}`"
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror}"
    checks: tuple[Callable[[], object], ...] = (keys.read, certificates.read, _pair)
    for check in checks:
        try:
            check()
        except Refused as error:
            yield str(error)
        except OSError as error:
            yield f"{error.filename} cannot be read: {error.strerror}"


def _pair() -> None:
    """Raises Refused unless certificate and key belong together."""
    certificate, key = (secret_files.gateway() / name for name in ("server.pem", "server.key"))
    if not certificate.exists():
        return  # the gateway creates both
    if not key.exists():
        raise Refused(
            f"{key} is missing, the key of {certificate}; put it there, or run "
            "`python -m deploy certificates --force`"
        )
    try:
        public = load_pem_private_key(key.read_bytes(), password=None).public_key()
    except (TypeError, ValueError):
        raise Refused(f"{key} is not a private key in PEM form without a password") from None
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except ValueError:
        return  # reported by `certificates.read`
    if chain[0].public_key() != public:
        raise Refused(f"{key} is not the key of {certificate}; put a matching pair there")
