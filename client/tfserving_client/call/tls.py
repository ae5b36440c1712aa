"""Certificates: whom a client trusts, and how it proves who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tfserving_client.errors import InvalidInput

if TYPE_CHECKING:
    import ssl

    import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for grpcs:// and https://.

    Attributes:
        ca: the authorities to trust; None: the system's.
        certificate: the client's own certificate chain, where the server asks for one.
        key: its private key, without a passphrase.

    Raises:
        InvalidInput: a file that cannot be read or is no such PEM, or a certificate without key.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("tls has only one of certificate and key; expected both or none")
        if self.ca is not None or self.certificate is not None:
            self.context()

    def context(self) -> ssl.SSLContext:
        """For connections through Python's `ssl`."""
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                # Called only for a key with a passphrase; without it the terminal would be asked.
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, TypeError, ValueError) as error:  # ssl.SSLError is an OSError
            raise self._refusal(error) from error
        return context

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC channels. gRPC would trust a list of its own; here it is the system's, too."""
        import ssl

        import grpc

        ca = self.ca if self.ca is not None else ssl.get_default_verify_paths().cafile
        try:
            authorities, key, certificate = (
                Path(file).read_bytes() if file is not None else None
                for file in (ca, self.key, self.certificate)
            )
        except OSError as error:
            raise self._refusal(error) from error
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _refusal(self, error: Exception) -> InvalidInput:
        files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file)
        reason = getattr(error, "strerror", None) or error
        if type(error).__name__ == "SSLError":  # whose own words are OpenSSL's
            reason = "no PEM of a certificate, or a key that is another's or has a passphrase"
        return InvalidInput(f"tls files {files} cannot be used: {reason}")
