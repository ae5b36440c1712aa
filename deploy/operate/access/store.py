"""Where keys and certificates are stored: in a folder on this machine, in Secrets on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

KEYS = "keys.conf"
CERTIFICATE, PRIVATE_KEY = "server.pem", "server.key"
AUTHORITY = "ca.pem"  # clients trust it
AUTHORITY_KEY = "ca.key"  # not mounted in the gateway
LOCAL = ("localhost", "127.0.0.1", "::1")

Result = TypeVar("Result")


class Store(Protocol):
    """Files by name; all except `AUTHORITY_KEY` are mounted in the gateway."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no file."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files, in this order."""

    def called(self, name: str) -> str:
        """The place of a file, for error sentences."""

    def hosts(self) -> Sequence[str]:
        """The names and addresses that every certificate there includes."""

    def how_to_trust(self) -> Sequence[str]:
        """Lines that show how a client trusts the certificate."""

    def alone(self, work: Callable[[], Result], *names: str) -> Result:
        """Run `work`, which reads and then writes these files, without other writers.

        Where other writers cannot be locked out, it is run again after another has written.

        Raises:
            Refused: this command may not write them.
        """
