#!/usr/bin/env bash
# Versions: grpcio 1.85.3, Python 3.11.
# Expected: the text of an error that is no valid UTF-8 shows U+FFFD, or raises.
# Seen: grpcio takes the whole text for Latin-1, so that what was valid is garbled as well: "größe",
#   cut within its "ß", arrives as "grÃ¶Ã".
# Matters: TensorFlow Serving cuts a long text at 1,024 bytes, in the middle of a character if it so
#   happens. The same error then reads well or not by its length, and code that looks for a word
#   with an umlaut in it, or for a quoted name, finds it only sometimes.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
"$work/venv/bin/python" - <<'EOF'
from concurrent import futures

import grpc


def fail(request, context):
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    context.set_details(request)  # bytes are sent as they are
    return b""


server = grpc.server(futures.ThreadPoolExecutor(1))
method = {"M": grpc.unary_unary_rpc_method_handler(fail)}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", method)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/S/M")

whole = "größe".encode()
seen = [call.future(text, timeout=60).details() for text in (whole, whole[:5])]
print(seen)
if seen != ["größe", whole[:5].decode("latin-1")]:
    raise SystemExit("Changed: a text that is cut within a character reads otherwise.")
EOF
