"""The server's side of `kubectl port-forward`: SPDY/3.1, as much of it as is spoken there.

https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/ has frames and dictionary. Of
each connection there is a stream for errors and one for its bytes; headers say which, and the port.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from io import BufferedIOBase

_SYN_STREAM, _SYN_REPLY, _PING = 1, 2, 6
_FIN = 1
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url "
    "public set-cookie keep-alive origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 "
    "Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service "
    "UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,"
    "sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_DICTIONARY = b"".join(
    struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()
)
_DICTIONARY += _REST.encode()


class Tunnel:
    """One connection of kubectl's, whose streams are carried to ports of this machine."""

    def __init__(
        self, reader: BufferedIOBase, connection: socket.socket, where: Callable[[int], int]
    ) -> None:
        """Args: what reads the connection; the connection; port of the pod → of this machine."""
        self._reader, self._connection, self._where = reader, connection, where
        self._inflate = zlib.decompressobj(zdict=_DICTIONARY)
        self._deflate = zlib.compressobj(zdict=_DICTIONARY)
        self._sending = threading.Lock()
        self._ports: dict[int, socket.socket | None] = {}
        self._errors: dict[str, int] = {}  # request → its stream for errors

    def carry(self) -> None:
        """Return when kubectl has gone."""
        try:
            while len(head := self._reader.read(8)) == 8:
                first, second = struct.unpack(">II", head)
                data = self._reader.read(second & 0xFFFFFF)
                if first >> 31:
                    self._control(first & 0xFFFF, data)
                else:
                    self._bytes(first, data, bool(second >> 24 & _FIN))
        except OSError:
            pass
        finally:
            for port in self._ports.values():
                if port:
                    _end(port)

    def _control(self, kind: int, data: bytes) -> None:
        if kind == _SYN_STREAM:
            (stream,) = struct.unpack(">I", data[:4])
            headers = _headers(self._inflate.decompress(data[10:]))
            nothing = self._deflate.compress(struct.pack(">I", 0))
            with self._sending:
                nothing += self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._send(_SYN_REPLY, struct.pack(">I", stream) + nothing)
            self._open(stream, headers)
        elif kind == _PING:
            self._send(_PING, data)

    def _open(self, stream: int, headers: dict[str, str]) -> None:
        if headers["streamtype"] == "error":
            self._errors[headers["requestid"]] = stream
            return
        errors = self._errors.pop(headers["requestid"])
        try:
            port = socket.create_connection(("127.0.0.1", self._where(int(headers["port"]))))
        except OSError as error:
            self._ports[stream] = None
            self._data(errors, f"connection refused: {error}".encode(), _FIN)
            self._data(stream, b"", _FIN)
            return
        self._data(errors, b"", _FIN)
        self._ports[stream] = port
        threading.Thread(target=self._answer, args=[stream, port], daemon=True).start()

    def _answer(self, stream: int, port: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while got := port.recv(1 << 16):
                self._data(stream, got)
            self._data(stream, b"", _FIN)

    def _bytes(self, stream: int, data: bytes, last: bool) -> None:
        if port := self._ports.get(stream):
            with contextlib.suppress(OSError):
                port.sendall(data)
                if last:
                    port.shutdown(socket.SHUT_WR)

    def _data(self, stream: int, data: bytes, flags: int = 0) -> None:
        with self._sending:
            self._connection.sendall(struct.pack(">II", stream, flags << 24 | len(data)) + data)

    def _send(self, kind: int, data: bytes) -> None:
        head = struct.pack(">HHI", 0x8003, kind, len(data))
        with self._sending:
            self._connection.sendall(head + data)


def _headers(block: bytes) -> dict[str, str]:
    texts, at = [], 4
    while at < len(block):
        (length,) = struct.unpack_from(">I", block, at)
        at += 4 + length
        texts.append(block[at - length : at].decode())
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _end(port: socket.socket) -> None:
    with contextlib.suppress(OSError):
        port.shutdown(socket.SHUT_RDWR)
    port.close()
