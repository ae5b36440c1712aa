"""Where keys and certificates lie: on this machine in a folder, on a cluster in Secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

KEYS = "keys.conf"
CERTIFICATE, PRIVATE_KEY = "server.pem", "server.key"
AUTHORITY = "ca.pem"  # what clients trust
AUTHORITY_KEY = "ca.key"  # which the gateway does not see
LOCAL = ("localhost", "127.0.0.1", "::1")

Result = TypeVar("Result")


class Store(Protocol):
    """Files by name, of which the gateway sees all but `AUTHORITY_KEY`."""

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if there is none."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace these files, in this order."""

    def called(self, name: str) -> str:
        """Where a file lies, for a sentence."""

    def hosts(self) -> Sequence[str]:
        """The names and addresses that a certificate there is always for."""

    def how_to_trust(self) -> Sequence[str]:
        """Lines that show how a client comes to trust the certificate."""

    def alone(self, work: Callable[[], Result], *names: str) -> Result:
        """Do what reads and then writes these files as the only one who does.

        It may be done more than once: where another cannot be kept out, it is done again on what
        the other wrote.

        Raises:
            Refused: they are not this command's to write.
        """
