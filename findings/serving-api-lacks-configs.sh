#!/usr/bin/env bash
# Versions: tensorflow-serving-api 2.21.0, protobuf 7.36.2, Python 3.11.
# Expected: the official package describes the text files that the server's flags name.
# Seen: it defines the models' configuration, and neither that of batching nor those of monitoring
#   and of TLS.
# Matters: with the package a models.config can be checked before a server reads it, and the other
#   three cannot, at whose mistakes the server ends as well. It takes a copy of their definitions.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps tensorflow-serving-api==2.21.0 protobuf==7.36.2
"$work/venv/bin/python" - <<'EOF'
from pathlib import Path

import tensorflow_serving

modules = Path(tensorflow_serving.__file__).parent.rglob("*_pb2.py")
definitions = b"".join(module.read_bytes() for module in modules)
messages = ("ModelServerConfig", "BatchingParameters", "MonitoringConfig", "SSLConfig")
found = {message: message.encode() in definitions for message in messages}
print("defined in the package:", found)
if list(found.values()) != [True, False, False, False]:
    raise SystemExit("Changed: the package defines other configuration files.")
EOF
