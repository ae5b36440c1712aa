#!/usr/bin/env bash
# Versions: grpcio 1.85.3, Python 3.11.
# Expected: a new channel makes a new connection, so a call on it reaches a server that is up.
# Seen: channels of one process with the same address and options share their connection, and the
#   wait after a failed one. While an old channel waits before it tries again, a call on a new one
#   fails at once with UNAVAILABLE, although the server answers by now. With the option
#   grpc.use_local_subchannel_pool=1 the new channel reaches it.
# Matters: "make a new client and try again" does not help after a server's restart, and a pool of
#   channels for more throughput is one connection: four channels came from a single port.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
"$work/venv/bin/python" - <<'EOF'
import socket
from concurrent import futures

import grpc

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % probe.getsockname()[1]
channels, peers = [], set()


def call(timeout=60, wait_for_ready=False, **options):
    pairs = [(f"grpc.{name}", value) for name, value in options.items()]
    channels.append(grpc.insecure_channel(address, pairs))
    method = channels[-1].unary_unary("/S/M")
    return method.future(b"", timeout=timeout, wait_for_ready=wait_for_ready).code().name


# An old channel that meets nobody, and waits for minutes until it tries again.
down = call(1, wait_for_ready=True, initial_reconnect_backoff_ms=300_000)
answer = grpc.unary_unary_rpc_method_handler(lambda _, context: peers.add(context.peer()) or b"")
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", {"M": answer})])
server.add_insecure_port(address)
server.start()
shared, own = call(initial_reconnect_backoff_ms=300_000), call(use_local_subchannel_pool=1)
print(f"server down: {down}; up: a new channel {shared}, one with its own connections {own}")
if (shared, own) != ("UNAVAILABLE", "OK"):
    raise SystemExit("Changed: a new channel no longer takes part in an old one's failure.")
peers.clear()
answers = [call() for _ in range(4)]
print("four channels:", answers, "connections:", len(peers))
if answers != ["OK"] * 4 or len(peers) != 1:
    raise SystemExit("Changed: channels to one address no longer share a connection.")
EOF
