#!/usr/bin/env bash
# Versions: grpcio 1.85.3, Python 3.11.
# Expected: timeout=float("inf") waits for ever, as timeout=None does.
# Seen: it ends the call at once with DEADLINE_EXCEEDED, and so does any number above some 5e9
#   seconds, sys.maxsize for example; 1e9 waits. Sent to a server that answers within a millisecond.
# Matters: who computes a deadline as "the least of these, or infinity" calls a healthy server slow.
#   Bound what is given to gRPC, or give None.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
"$work/venv/bin/python" - <<'EOF'
import sys
from concurrent import futures

import grpc

answer = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", {"M": answer})])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/S/M")

timeouts = (None, 1e9, 1e10, sys.maxsize, float("inf"))
seen = {str(timeout): call.future(b"", timeout=timeout).code().name for timeout in timeouts}
print(seen)
if list(seen.values()) != ["OK"] * 2 + ["DEADLINE_EXCEEDED"] * 3:
    raise SystemExit("Changed: very long timeouts are treated otherwise.")
EOF
