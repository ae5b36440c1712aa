"""Where the servers are: the URL that a caller types.

url                                        protocol
`grpc://host[:8500]`, `grpcs://host[:443]` gRPC, gRPC over TLS
`http://host[:8501]`, `https://host[:443]` REST, REST over TLS; `/prefix` before /v1 is allowed
`dns:///host[:8500]`                       gRPC to every address that the name has, by turns
`grpc+unix:///path`, `unix:///path`        gRPC over a UNIX socket
`http+unix:///path`                        REST over a UNIX socket (of a gateway)

The first two rows take several hosts, `grpc://a:8500,b:8500`, which share the load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from client.arguments import shown
from client.errors import InvalidInput
from client.tls import Tls

# scheme → (speaks gRPC, encrypted, the port when none is given)
_HOSTS = {
    "grpc": (True, False, 8500),
    "grpcs": (True, True, 443),
    "http": (False, False, 8501),
    "https": (False, True, 443),
}
_SOCKETS = {"unix": True, "grpc+unix": True, "http+unix": False}  # → speaks gRPC
_DNS = re.compile(r"dns:///([^/?#@]+)")  # the authority, between the slashes, is the DNS server's

_HOST = r"[0-9a-z._:%-]+"  # a name or an address, in lower case as urlsplit gives it
_EXPECTED = "expected grpc://, grpcs://, http:// or https:// and host[:port], or see client.target"


@dataclass(frozen=True, slots=True)
class Target:
    """One server.

    Attributes:
        url: what a person would type to reach this one alone.
        grpc: it speaks gRPC; else REST.
        tls: what to prove and to whom; None is plain text.
        host: a name, or an address without brackets; empty for a UNIX socket.
        port: its TCP port.
        prefix: a REST path before `/v1`, for servers behind a gateway.
        socket: a UNIX socket's path; empty for TCP.
        by_dns: gRPC itself finds all addresses of the name, and takes turns.
    """

    url: str
    grpc: bool
    tls: Tls | None = None
    host: str = ""
    port: int = 0
    prefix: str = ""
    socket: str = ""
    by_dns: bool = False

    @property
    def address(self) -> str:
        """The target as gRPC writes it; `host:port` for people and for HTTP's `Host`."""
        if self.socket:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'dns:///' if self.by_dns else ''}{host}:{self.port}"


def parse(url: str, tls: Tls | None = None) -> tuple[Target, ...]:
    """Parse a URL; see the module.

    Raises:
        InvalidInput: an unknown scheme, no host, a port out of range, parts that mean nothing
            here, or certificates for a connection without TLS.
    """
    if not isinstance(url, str):
        raise InvalidInput(f"url is {shown(url)}; {_EXPECTED}")
    if not url.isprintable():  # urlsplit would drop some of it
        raise InvalidInput(f"url {shown(url)} has unprintable characters; {_EXPECTED}")
    if not isinstance(tls, Tls | None):
        raise InvalidInput(f"tls is a {type(tls).__name__}; expected a Tls")
    scheme, _, rest = url.partition("://")
    if scheme in _SOCKETS and len(rest) > 1 and rest.startswith("/"):
        return (Target(url, _SOCKETS[scheme], tls, host="localhost", socket=rest),)
    by_dns = _DNS.fullmatch(url)
    if by_dns:
        scheme, rest = "grpcs" if tls else "grpc", by_dns[1]
    if scheme not in _HOSTS:
        raise InvalidInput(f"url is {url!r}; {_EXPECTED}")
    if tls and not _HOSTS[scheme][1]:
        raise InvalidInput(f"url is {url!r}, without TLS, and tls is given; use {scheme}s://")
    hosts, slash, path = rest.partition("/")
    targets = tuple(_parse_one(url, scheme, host + slash + path, tls) for host in hosts.split(","))
    if by_dns and len(targets) > 1:
        raise InvalidInput(f"url is {url!r}; expected one name after dns:///")
    if by_dns:
        return tuple(Target(url, t.grpc, t.tls, t.host, t.port, by_dns=True) for t in targets)
    return targets


def _parse_one(url: str, scheme: str, rest: str, tls: Tls | None) -> Target:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
        host = parts.hostname or ""
        host.encode("idna")  # as Python's sockets will
    except ValueError as error:
        raise InvalidInput(f"url {url!r} cannot be read: {error}; {_EXPECTED}") from None
    if not re.fullmatch(_HOST, host) or port == 0:
        raise InvalidInput(f"url is {url!r}; {_EXPECTED}")
    grpc, encrypted, default_port = _HOSTS[scheme]
    prefix = parts.path.rstrip("/")
    if "@" in parts.netloc or parts.query or parts.fragment or (grpc and prefix):
        raise InvalidInput(f"url {url!r} has more than a host and a port; {_EXPECTED}")
    if re.search(r"[^!-~]", prefix):
        raise InvalidInput(f"url {url!r} has a path with characters that HTTP does not carry")
    secrets = (tls or Tls()) if encrypted else None
    port = default_port if port is None else port
    return Target(f"{scheme}://{rest}", grpc, secrets, host, port, prefix)
