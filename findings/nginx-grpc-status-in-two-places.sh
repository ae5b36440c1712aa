#!/usr/bin/env bash
# Versions: nginx 1.22.1 (Debian 12's 1.22.1-9+deb12u11), grpcio 1.85.3, Python 3.11.
# Expected: one variable for the access log holds the gRPC status; all answers are HTTP 200.
# Seen: of an answer with a message it is in $sent_trailer_grpc_status, of an error, which servers
#   send as "trailers only", in $sent_http_grpc_status; the other variable is "-".
# Matters: a log or an error rate made from either shows only successes or only failures. Log both,
#   one behind the other.
set -euo pipefail
work=$(mktemp -d)
trap '[ ! -e "$work/pid" ] || kill "$(cat "$work/pid")"; rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq nginx=1.22.1-9+deb12u11 && dpkg-deb --extract nginx_*.deb .)
export PATH="$work/usr/sbin:$PATH"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
"$work/venv/bin/python" - "$work" <<'EOF'
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import grpc

work = Path(sys.argv[1])


def answer(request, context):
    if request:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
    return b""


server = grpc.server(futures.ThreadPoolExecutor(1))
method = {"M": grpc.unary_unary_rpc_method_handler(answer)}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", method)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
(work / "nginx.conf").write_text(f"""
pid {work}/pid; error_log {work}/errors; events {{}}
http {{
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    log_format both '$status $sent_trailer_grpc_status $sent_http_grpc_status';
    access_log {work}/log both;
    server {{ listen unix:{work}/socket http2; location / {{ grpc_pass 127.0.0.1:{port}; }} }}
}}""")
subprocess.run(["nginx", "-c", work / "nginx.conf"], check=True)
call = grpc.insecure_channel(f"unix:{work}/socket").unary_unary("/S/M")
codes = [call.future(request, timeout=60).code().name for request in (b"", b"fail")]
subprocess.run(["nginx", "-c", work / "nginx.conf", "-s", "quit"], check=True)
while (work / "pid").exists():  # until it has written the log
    time.sleep(0.1)
lines = (work / "log").read_text().splitlines()
print("HTTP, in the trailer, in the header:", dict(zip(codes, lines)))
if codes != ["OK", "NOT_FOUND"] or lines != ["200 0 -", "200 - 5"]:
    raise SystemExit("Changed: nginx has the gRPC status elsewhere.")
EOF
