#!/usr/bin/env bash
# Versions: nginx 1.22.1 (Debian 12's 1.22.1-9+deb12u11), grpcio 1.85.3, Python 3.11.
# Expected: `mirror` copies requests to a shadow server and ignores what it answers, so that a slow
#   shadow slows nobody.
# Seen: over HTTP/1.1 the next request of the same connection waits until the shadow has answered
#   the last one, here for three seconds. gRPC calls on one connection do not wait.
# Matters: a shadow model that is slower than the live one slows every REST client that keeps its
#   connections, and a test with curl, one connection each, shows nothing of it.
set -euo pipefail
work=$(mktemp -d)
trap '[ ! -e "$work/pid" ] || kill "$(cat "$work/pid")"; rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq nginx=1.22.1-9+deb12u11 && dpkg-deb --extract nginx_*.deb .)
export PATH="$work/usr/sbin:$PATH"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
"$work/venv/bin/python" - "$work" <<'EOF'
import http.client
import http.server
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

work = Path(sys.argv[1])


class Rest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(self.server.pause)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def serve(pause):
    """The ports of a REST and a gRPC server that answer after so many seconds."""
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    rest.pause = pause
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    rpc = grpc.server(futures.ThreadPoolExecutor(8))
    method = grpc.unary_unary_rpc_method_handler(lambda *_: time.sleep(pause) or b"")
    rpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", {"M": method})])
    servers.append(rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    return {"proxy_pass http://": rest.server_port, "grpc_pass grpc://": port}


servers, shadow_pause = [], 3.0
live, shadow = serve(0), serve(shadow_pause)
places = "".join(
    f"""server {{ listen unix:{work}/{name}; location / {{ mirror /m; {how}127.0.0.1:{live[how]}; }}
        location = /m {{ internal; {how}127.0.0.1:{shadow[how]}; }} }}"""
    for name, how in (("rest", "proxy_pass http://"), ("grpc http2", "grpc_pass grpc://"))
)
(work / "nginx.conf").write_text(f"""
pid {work}/pid; error_log {work}/errors; events {{}}
http {{
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5; access_log off;
    {places}
}}""")
subprocess.run(["nginx", "-c", work / "nginx.conf"], check=True)
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(f"{work}/rest")
call = grpc.insecure_channel(f"unix:{work}/grpc").unary_unary("/S/M")


def rest_request():
    connection.request("GET", "/")
    connection.getresponse().read()


def seconds(ask):
    begin = time.monotonic()
    ask()
    return time.monotonic() - begin


seen = {
    "REST": [seconds(rest_request) for _ in range(2)],
    "gRPC": [seconds(lambda: call(b"", timeout=60)) for _ in range(2)],
}
print("seconds of the first and the second request:", seen)
if seen["REST"][1] < shadow_pause * 0.9:
    raise SystemExit("Changed: a request no longer waits for the mirrored one before it.")
if seen["gRPC"][1] > shadow_pause * 0.9:
    raise SystemExit("Changed: gRPC calls wait for mirrored ones, too.")
EOF
