"""Callers by `dns:///` and round_robin give no call to a replica that comes later.

gRPC asks for a name again only when a connection ends. Shown with gRPC's own servers, and a name
server that tells of the second replica after two seconds: as they are, and with
`max_connection_age_ms`, which TensorFlow Serving takes in `--grpc_channel_arguments`.

    python findings/later_replicas.py
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

FIRST, LATER = "127.0.0.2", "127.0.0.3"
SECONDS = 100
METHOD = "/findings.Replica/Call"


class NameServer:
    """Answers every question for an IPv4 address by `addresses`; for anything else, by none."""

    def __init__(self) -> None:
        self.addresses = [FIRST]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            end = question.index(b"\0", 12) + 5
            kind = struct.unpack(">H", question[end - 4 : end - 2])[0]
            addresses = self.addresses if kind == 1 else []
            records = [
                struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
                for address in addresses
            ]
            header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
            self._socket.sendto(header + question[12:end] + b"".join(records), asker)


class Replica:
    """A server that counts its calls."""

    def __init__(self, address: str, port: int, age_ms: int | None) -> None:
        self.calls = 0
        handler = grpc.unary_unary_rpc_method_handler(self._call)
        options = [("grpc.max_connection_age_ms", age_ms)] if age_ms else []
        self.server = grpc.server(ThreadPoolExecutor(4), options=options)
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("findings.Replica", {"Call": handler})]
        )
        self.port = self.server.add_insecure_port(f"{address}:{port}")
        self.server.start()

    def _call(self, body: bytes, _: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return body


def show(age_ms: int | None) -> None:
    """Call for a while, a second replica from the third second on; say who got how many calls."""
    names = NameServer()
    first = Replica(FIRST, 0, age_ms)
    options = [("grpc.lb_policy_name", "round_robin")]
    target = f"dns://127.0.0.1:{names.port}/replicas.example:{first.port}"
    failed, reached = 0, ""
    with grpc.insecure_channel(target, options) as channel:
        call = channel.unary_unary(METHOD)
        call(b"", timeout=10)
        time.sleep(2)
        later = Replica(LATER, first.port, age_ms)
        names.addresses = [FIRST, LATER]
        begun = time.monotonic()
        while (seconds := time.monotonic() - begun) < SECONDS:
            try:
                call(b"", timeout=10)
            except grpc.RpcError:
                failed += 1
            if later.calls and not reached:
                reached = f", its first after {seconds:.0f} s"
            time.sleep(0.01)
    print(f"max_connection_age_ms {age_ms}: {first.calls} calls, {failed} failed,", end=" ")
    print(f"the later replica {later.calls}{reached}", flush=True)
    for replica in (first, later):
        replica.server.stop(None).wait()


if __name__ == "__main__":
    for age in (None, 10_000):
        show(age)
