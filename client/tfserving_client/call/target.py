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
from dataclasses import dataclass, field, replace

from tfserving_client.call.arguments import shown, typed
from tfserving_client.call.tls import Tls
from tfserving_client.errors import InvalidInput

# scheme → (speaks gRPC, encrypted, the port when none is given)
_HOSTS = {
    "grpc": (True, False, 8500),
    "grpcs": (True, True, 443),
    "http": (False, False, 8501),
    "https": (False, True, 443),
}
_SOCKETS = {"unix": True, "grpc+unix": True, "http+unix": False}  # → speaks gRPC
_DNS = re.compile(r"dns:///([^/?#@]+)")  # the authority, between the slashes, is the DNS server's

_NAME = r"[0-9a-z_-]{1,63}"  # RFC 1035, section 2.3.4, and the underscore of containers' names
_PLACE = re.compile(
    rf"(?P<host>{_NAME}(\.{_NAME})*\.?|\[[0-9a-f:.]+(%\w+)?\])(:(?P<port>\d{{0,5}}))?"
    r"(?P<prefix>/[!-\"$->@-~]*)?",  # printable ASCII but ? and #
    re.IGNORECASE | re.ASCII,
)
_CALL = re.compile(r"/v1(/models(/(?P<model>[^/:]+).*)?)?$")  # what a request's path begins with
_SLIP = re.compile(
    r"(grpcs?|https?)[:/]{1,3}(?!\d+$)([^:/\\].*)", re.IGNORECASE
)  # grpc:/a, http//a
_EXPECTED = (
    "expected grpc://, grpcs://, http:// or https:// and host[:port], or what "
    "tfserving_client.call.target lists"
)


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
        has_company: there are others that can be asked while this one is silent.
    """

    url: str
    grpc: bool
    tls: Tls | None = None
    host: str = ""
    port: int = 0
    prefix: str = ""
    socket: str = ""
    by_dns: bool = False
    has_company: bool = field(default=False, compare=False)

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
    if not url.isprintable():  # NUL, say, in a UNIX socket's path
        raise InvalidInput(f"url {shown(url)} has unprintable characters; {_EXPECTED}")
    if not isinstance(tls, Tls | None):
        raise InvalidInput(f"tls is {typed(tls)}; expected a Tls")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if "@" in rest.partition("/")[0]:  # not shown: it may be a password
        raise InvalidInput(
            f"url has a user or a password before its host; {_EXPECTED}; "
            "pass them as headers={'authorization': …}"
        )
    if not separator and (meant := _meant(url)):
        raise InvalidInput(f"url is {shown(url)}; {_EXPECTED}; did you mean {meant}?")
    if scheme in _SOCKETS and len(rest) > 1 and rest.startswith("/"):
        return (Target(url, _SOCKETS[scheme], tls, host="localhost", socket=rest),)
    by_dns = _DNS.fullmatch(url)
    if by_dns:
        scheme, rest = "grpcs" if tls else "grpc", by_dns[1]
    if scheme not in _HOSTS:
        raise InvalidInput(f"url is {shown(url)}; {_EXPECTED}")
    if tls and not _HOSTS[scheme][1]:
        raise InvalidInput(f"url is {url!r}, without TLS, and tls is given; use {scheme}s://")
    if "://" in rest:
        raise InvalidInput(f"url is {shown(url)}; expected {scheme}:// once, then host,host")
    hosts, slash, path = rest.partition("/")
    targets = tuple(_parse_one(url, scheme, host + slash + path, tls) for host in hosts.split(","))
    if by_dns and len(targets) > 1:
        raise InvalidInput(f"url is {url!r}; expected one name after dns:///")
    if by_dns:
        return tuple(Target(url, t.grpc, t.tls, t.host, t.port, by_dns=True) for t in targets)
    return tuple(replace(target, has_company=len(targets) > 1) for target in targets)


def _parse_one(url: str, scheme: str, rest: str, tls: Tls | None) -> Target:
    grpc, encrypted, default_port = _HOSTS[scheme]
    place = _PLACE.fullmatch(rest)
    prefix = (place["prefix"] or "").rstrip("/") if place else ""
    port = int(place["port"] or default_port) if place else 0
    if not place or not 0 < port < 1 << 16:
        raise InvalidInput(f"url is {shown(url)}; {_EXPECTED}")
    if grpc and prefix:
        raise InvalidInput(
            f"url is {shown(url)}, but a gRPC URL has no path; "
            f"expected {scheme}://{rest.partition('/')[0]}"
        )
    if called := _CALL.search(prefix):
        model = f" and model={called['model']!r}" if called["model"] else ""
        raise InvalidInput(
            f"url is {shown(url)}, and the client adds {called[0]} itself; pass "
            f"{scheme}://{rest.partition('/')[0]}{prefix[: called.start()]}{model}"
        )
    secrets = (tls or Tls()) if encrypted else None
    return Target(
        f"{scheme}://{rest}", grpc, secrets, place["host"].lower().strip("[]"), port, prefix
    )


def _meant(url: str) -> str:
    """The URL whose scheme was forgotten or misspelled; empty if that is not what happened."""
    if slip := _SLIP.fullmatch(url):
        return f"{slip[1].lower()}://{slip[2]}"
    server = _CALL.sub("", url)  # the client adds that itself
    place = _PLACE.fullmatch(server)
    if not place or (place["prefix"] and not (place["port"] or "." in server)):
        return ""
    is_rest = place["prefix"] or place["port"] in {"80", "8080", "8501"} or server != url
    return f"{'http' if is_rest else 'grpc'}://{server}"
