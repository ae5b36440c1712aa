"""What went wrong and what to do about it, in plain words, from the words of server and transport.

The README's table "What an error says" lists these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_LONGEST = 300  # characters of a text that is none of the known ones


class Explanation(NamedTuple):
    """The two halves of an error's sentence.

    Attributes:
        cause: what went wrong, without a full stop.
        advice: what to do about it; empty where there is nothing to say.
        is_permanent: the same call will fail in the same way until somebody changes something.
    """

    cause: str
    advice: str
    is_permanent: bool = False


class _Known(NamedTuple):
    """A text that is known: `{0}` and so on stand for what the pattern's groups found.

    In `cause` and `advice` the names stand for what was asked for (see `_words`).
    """

    pattern: str
    cause: str
    advice: str = ""
    is_permanent: bool = False


_UP = "is the server up and the port right? Its ports open once a model is loaded"

_BY_PROXY = _Known(
    r"by the proxy of (\w+)",
    "the proxy that {0} names did not let the call through",
    "unset {0}, or name this host in no_proxy to reach it directly",
)
_SILENT = _Known(
    r"not connected in time",
    "the host does not answer",
    "is the address right, and is there a firewall in between?",
)
_SILENT_IN_TLS = _Known(
    r"no answer to TLS",
    "the host takes the connection, but does not answer to TLS",
    "is the port right, and does it speak TLS?",
)
# By the error's class; the first row that fits.
_CONNECTION = (
    _Known(r"^this client is closed|closed channel|channel was closed", "this client is closed",
           "make a new one", is_permanent=True),
    _Known(r"^(this process was forked[^:]*): (.*)", "{0}", "{1}", is_permanent=True),
    _Known(r"certificate (?:has |is )?expired|certificate is not yet valid",
           "the server's certificate is not valid today", "its operator has to renew it",
           is_permanent=True),
    _Known(r"(?:Hostname|IP address) mismatch|Hostname Verification Check failed",
           "the server's certificate is for another name than the URL's",
           "use a name that is in the certificate", is_permanent=True),
    _Known(r"certificate.verify.failed", "the server's certificate is not trusted",
           "pass tls=Tls(ca=…), on the command line --ca, with the PEM file of the authority that "
           "signed it", is_permanent=True),
    _Known(r"certificate.required|unknown.ca\b|bad.certificate|handshake.failure",
           "the server asks for a client certificate, signed by an authority that it trusts",
           "pass tls=Tls(certificate=…, key=…), on the command line --cert and --key",
           is_permanent=True),
    _Known(r"wrong.version.number|record.layer.failure|packet.length.too.long|http_request",
           "this port speaks plain {protocol}, without TLS", "use {plain}://", is_permanent=True),
    _Known(r"missing selected ALPN", "this port speaks TLS, but not gRPC",
           "use https:// for REST, or the port of gRPC", is_permanent=True),
    _BY_PROXY,
    _Known(r"name or service not known|name resolution|errors resolving|no address associated",
           "the host name is not known here", "is it spelled right?"),
    _SILENT_IN_TLS,
    _SILENT,
    _Known(r"refused|connect call failed", "the connection was refused", _UP),
    _Known(r"no such file or directory", "there is no such socket",
           "is the server up and the path right?"),
    _Known(r"no route to host|(?:network|host) is unreachable", "no network leads to the host",
           "is the address right?"),
    _Known(r"backends failing.*(?:socket closed|reset by peer)|hung up at once",
           "the server hung up without an answer", "{hint}"),
    _Known(r"socket closed|reset by peer|hung up|broken pipe|stream removed|connection was lost"
           r"|goaway|eof occurred", "the connection broke"),
    _Known(r"timed out|ping timeout|keepalive", "the server stopped answering"),
)  # fmt: skip
_KNOWN: Mapping[str, tuple[_Known, ...]] = {
    "Unreachable": _CONNECTION,
    "DeadlineExceeded": (
        _Known(r"^(not AVAILABLE within .*)", "{0}"),
        _BY_PROXY,
        _SILENT_IN_TLS,
        _SILENT,
        _Known(r"deadline exceeded|no answer in time|had not arrived|timed out",
               "no answer came in time", "raise timeout=, or ask for less at once"),
    ),
    "NotFound": (
        _Known(r"Servable not found for request: Latest\(", "no version of {model} is loaded",
               "is model= right? status() tells what is still loading"),
        _Known(r"Servable not found for request: Specific\(.*, (-?\d+)\)",
               "version {0} of {model} is not loaded", "status() lists the versions that are"),
        _Known(r"Could not find any versions of model", "the server has no {model}",
               "pass as model= the name in the server's configuration"),
        _Known(r"Could not find version (\d+) of model", "the server has no version {0} of {model}",
               "status() lists the versions that it has"),
    ),
    "Rejected": (
        _Known(r"Unrecognized servable version label: (.*)",
               "no version of {model} has the label {0!r}",
               "are label= and model= right? Labels are set in the server's configuration"),
        _Known(r'Serving signature (?:key|name:?) "(.*?)" not found',
               "{model} has no signature {0!r}", "metadata() lists those that it has"),
        _Known(r"(?:No|Expected) (classification|regression) "
               r"(?:inputs found in SignatureDef|signature method_name)",
               "this signature of {model} is not made for {0}",
               "metadata() lists those that it has"),
        _Known(r"Signature input alias: (\S+?)\(.*not found in request", "input {0!r} is missing",
               "metadata() lists the inputs"),
        _Known(r"Malformed request: \w+ (\S+)", "the server does not know the path {0}",
               "is the path in the URL right?"),
        _Known(r"larger than max|request entity too large",
               "the request is larger than the server takes", "ask for less at once"),
    ),
    "Overloaded": (
        _Known(r"batch scheduling queue .* is full", "the server's queue is full",
               "try again later, or send less at once"),
    ),
    "BadResponse": (
        _Known(r"Failed parsing HTTP/2|Trying to connect an", "this port does not speak gRPC",
               "for REST use {rest}://"),
        _Known(r"Received http2 header with status: (\d+)", "what answered is an HTTP server, not "
               "a gRPC server: it says status {0}", "for REST use {rest}://"),
        _Known(r"the answer is HTTP/2", "this port speaks gRPC", "use grpc://, or REST's port"),
        _Known(r"the answer is TLS|plain HTTP request was sent to HTTPS port",
               "this port speaks TLS", "use {secure}://"),
        _Known(r"^HTTP (\d+) (?!\{)", "what answered is not TensorFlow Serving: it says HTTP {0}",
               "are the port and the path in the URL right?"),
        _Known(r"the answer is not HTTP", "what answers on this port is not HTTP",
               "is the port right?"),
    ),
}  # fmt: skip


def explain(kind: str, text: str, context: Mapping[str, Any], advice: str) -> Explanation:
    """What an error says.

    Args:
        kind: its class's name.
        text: the server's or transport's own words.
        context: what was asked of whom, by `CallContext`'s names.
        advice: the class's, where the text is none of the known ones.
    """
    for known in _KNOWN.get(kind, ()):
        if found := re.search(known.pattern, text, re.IGNORECASE | re.DOTALL):
            words = _words(str(context["endpoint"]), str(context["model"]))
            groups = [_plain(group or "") for group in found.groups()]
            cause, advised = (half.format(*groups, **words) for half in (known.cause, known.advice))
            return Explanation(cause, advised, known.is_permanent)
    return Explanation(_plain(text) or "no details", advice)


def _words(endpoint: str, model: str) -> dict[str, str]:
    """What the rows' names stand for."""
    scheme = endpoint.partition("://")[0]
    is_grpc, is_plain = not scheme.startswith("http"), scheme in {"grpc", "http", "dns"}
    plain = "grpc" if is_grpc else "http"
    hint = f"if this port speaks TLS, use {plain}s://"
    if not is_plain:
        hint = "if it asks for a client certificate, pass tls=Tls(certificate=…, key=…)"
    return {
        "model": f"model {model!r}",
        "protocol": "text" if is_grpc else "HTTP",  # of gRPC or of HTTP: TLS cannot tell
        "plain": plain,
        "secure": f"{plain}s",
        "rest": "http" if is_plain else "https",
        "hint": hint,
    }


def _plain(text: str) -> str:
    """The words of a server or of gRPC without their makers' own: one line, and not a long one."""
    text = re.sub(r"\[?\[?\{\{.*?\}\}\]?\]?", " ", text)  # TensorFlow's names of nodes
    text = re.sub(r"^.*last error: [A-Z_]+: (?:(?:ipv[46]|unix):\S+: )?", "", text, flags=re.DOTALL)
    text = " ".join(re.sub(r"^(?:[A-Z_]{5,}|HTTP 400) (?=.*\S)", "", text, flags=re.DOTALL).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
