#!/usr/bin/env bash
# Versions: grpcio 1.85.3, Python 3.11.
# Expected: proxies as for curl: https_proxy is for TLS, HTTPS_PROXY and NO_PROXY mean the same in
#   capitals, no_proxy=* turns them off.
# Seen: a plaintext channel goes through https_proxy, to 127.0.0.1 as well; HTTPS_PROXY and NO_PROXY
#   are not looked at, and `*` in no_proxy is a host of that name. A list of hosts does work.
# Matters: on a machine behind a proxy the first call to a local model server is UNAVAILABLE, while
#   curl reaches the same server; where only capitals are set, the call that needs the proxy does
#   not use it.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
cat >"$work/call.py" <<'EOF'
import sys

import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
print(channel.unary_unary("/S/M").future(b"", timeout=30).code().name, end="")
EOF
"$work/venv/bin/python" - "$work" <<'EOF'
import os
import subprocess
import sys
from concurrent import futures

import grpc

answer = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", {"M": answer})])
port = server.add_insecure_port("127.0.0.1:0")
server.start()

nobody = "http://127.0.0.1:9"  # a proxy that is not there
clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
command = [sys.executable, f"{sys.argv[1]}/call.py", str(port)]
cases = {
    "https_proxy": {"https_proxy": nobody},
    "HTTPS_PROXY": {"HTTPS_PROXY": nobody},
    "NO_PROXY": {"https_proxy": nobody, "NO_PROXY": "127.0.0.1"},
    "no_proxy=*": {"https_proxy": nobody, "no_proxy": "*"},
    "no_proxy": {"https_proxy": nobody, "no_proxy": "127.0.0.1"},
}
seen = {
    name: subprocess.run(command, env=clean | more, capture_output=True, text=True).stdout
    for name, more in cases.items()
}
print(seen)
if list(seen.values()) != ["UNAVAILABLE", "OK", "UNAVAILABLE", "UNAVAILABLE", "OK"]:
    raise SystemExit("Changed: gRPC reads the variables for proxies otherwise.")
EOF
