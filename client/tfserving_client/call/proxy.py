"""Which proxy leads to a server: one rule for gRPC and REST.

TLS goes by the proxy that `https_proxy` names, plain text by that of `http_proxy`, and gRPC before
either by that of `grpc_proxy`; the names may be in upper case. What `no_proxy` lists (hosts, which
stand for what is beneath them, too, addresses, networks such as 10.0.0.0/8, or *), this machine
and UNIX sockets are reached directly. A proxy is asked to CONNECT.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfserving_client.call.target import Target
from tfserving_client.errors import InvalidInput

# Not compiled before a variable is set, to spare every start a millisecond.
_PROXY = (
    r"(?:http://)?(?:(?P<secret>[^@/\s]*)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)"
    r"(?::(?P<port>\d{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """Attributes: the `variable` that names it, `host` and `port`, and the `secret`, `user:key`."""

    variable: str
    host: str
    port: int
    secret: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """As gRPC is told of it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{self.secret}{'@' if self.secret else ''}{host}:{self.port}"

    @property
    def note(self) -> str:
        """For the text of an error."""
        return f"by the proxy of {self.variable}, {self.host}:{self.port}"


def proxy_for(target: Target, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that leads to a server, if any.

    Raises:
        InvalidInput: the variable does not name a proxy that speaks plain HTTP.
    """
    names = ["https_proxy" if target.tls else "http_proxy"]
    if target.grpc:
        names.insert(0, "grpc_proxy")
    for name in names:
        variable, value = _read(name, environment)
        if value and not _is_near(target, _read("no_proxy", environment)[1]):
            place = re.fullmatch(_PROXY, value)
            if place is None:  # its value may hold a password
                raise InvalidInput(f"{variable} does not name a proxy as http://host:port")
            return Proxy(
                variable, place["host"].strip("[]"), int(place["port"] or 80), place["secret"] or ""
            )
    return None


def _read(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """A variable and its value. In CGI the client's header `Proxy` would be HTTP_PROXY."""
    names = [name] if "REQUEST_METHOD" in environment else [name, name.upper()]
    return next(((n, environment[n].strip()) for n in names if environment.get(n)), (name, ""))


def _is_near(target: Target, no_proxy: str) -> bool:
    """Whether it is on this machine, or is not to be reached by a proxy."""
    host = target.host.rstrip(".")
    address = _address(host)
    if target.socket or (address and address.is_loopback) or f".{host}".endswith(".localhost"):
        return True
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        if address:
            try:
                if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:  # a name
                continue
        elif (name := entry.lstrip("*").lstrip(".")) and f".{host}".endswith(f".{name}"):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
