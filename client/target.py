"""Where the server is: the URL that a caller types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from client.errors import InvalidInput

# scheme → (speaks gRPC, encrypted, the port when none is given)
_SCHEMES = {
    "grpc": (True, False, 8500),
    "grpcs": (True, True, 443),
    "http": (False, False, 8501),
    "https": (False, True, 443),
}

_HOST = r"[0-9a-z._:%-]+"  # a name or an address, in lower case as urlsplit gives it


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. `prefix` is a REST path before `/v1`, for servers behind a gateway."""

    host: str
    port: int
    grpc: bool
    tls: bool
    prefix: str = ""

    @property
    def address(self) -> str:
        """`host:port`, as gRPC and people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: str) -> Target:
    """Parse `scheme://host[:port][/prefix]`.

    Raises:
        InvalidInput: an unknown scheme, no host, a port out of range, or parts that mean nothing
            here.
    """
    expected = "expected grpc://, grpcs://, http:// or https:// and host[:port]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"url {url!r} cannot be read: {error}; {expected}") from None
    host = parts.hostname or ""
    if parts.scheme not in _SCHEMES or not re.fullmatch(_HOST, host):
        raise InvalidInput(f"url is {url!r}; {expected}")
    grpc, tls, default_port = _SCHEMES[parts.scheme]
    prefix = parts.path.rstrip("/")
    if parts.username or parts.password or parts.query or parts.fragment or (grpc and prefix):
        raise InvalidInput(f"url {url!r} has more than a host and a port; {expected}")
    return Target(host, default_port if port is None else port, grpc, tls, prefix)
