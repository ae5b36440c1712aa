"""HTTP/1.1 over one connection, free of I/O: bytes to send, bytes received, a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import h11

from tfserving_client.call.target import Target


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Conversation:
    """Requests and answers by turns on one connection.

    Attributes:
        is_fresh: no answer has come on this connection yet.
    """

    def __init__(self, target: Target) -> None:
        self._host = target.host if target.socket else target.address
        self._h11 = h11.Connection(h11.CLIENT)
        self._begin()
        self.is_fresh = True

    def _begin(self) -> None:
        self._response: h11.Response | None = None
        self._body: list[bytes] = []

    def request(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The bytes to send."""
        fields = [("Host", self._host), ("Content-Type", "application/json"), *headers.items()]
        if body:
            fields.append(("Content-Length", str(len(body))))
        events: list[h11.Event] = [h11.Request(method=verb, target=path, headers=fields)]
        if body:
            events.append(h11.Data(data=body))
        events.append(h11.EndOfMessage())
        return b"".join(self._h11.send(event) or b"" for event in events)

    def receive(self, data: bytes) -> Response | None:
        """Take what came (b"" when the server hung up); the answer, once it is whole.

        Raises:
            ConnectionResetError: the server hung up before that.
            h11.RemoteProtocolError: this is not HTTP.
        """
        self._h11.receive_data(data)
        if self._response is None and (other := _other(self._h11.trailing_data[0])):
            raise h11.RemoteProtocolError(f"the answer is {other}")
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if data:
                    raise
                when = "at once" if self.is_untouched else "in mid-answer"
                raise ConnectionResetError(f"the server hung up {when}") from error
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return self._end()

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has come on this connection yet."""
        return self.is_fresh and self._response is None and not self._h11.trailing_data[0]

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can carry another request."""
        is_quiet = not self._h11.trailing_data[0]  # else the next answer would begin with it
        return self._h11.our_state is h11.IDLE and is_quiet and not self.is_fresh

    def _end(self) -> Response:
        assert self._response is not None  # h11 puts it before the end
        headers = {name.decode(): value.decode("latin-1") for name, value in self._response.headers}
        response = Response(self._response.status_code, headers, b"".join(self._body))
        self.is_fresh = False
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._begin()
        return response


def _other(beginning: bytes) -> str:
    """What an answer is if it is not HTTP/1. Known early: other servers greet, and wait."""
    if b"HTTP/".startswith(beginning[:5]):
        return ""
    if beginning.startswith(b"\x15\x03"):  # an alert: RFC 8446, section 5.1
        return "TLS"
    if beginning[:2] == b"\0\0" and beginning[3:4] == b"\4":  # SETTINGS: RFC 9113, section 3.4
        return "HTTP/2"
    return "not HTTP"
