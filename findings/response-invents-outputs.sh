#!/usr/bin/env bash
# Versions: tensorflow-serving-api 2.21.0, protobuf 7.36.2, Python 3.11 (600 MB to install).
# Expected: response.outputs["scoers"], mistyped, is a KeyError, as in any Python mapping.
# Seen: it is an empty tensor, and from then on the response has that output: reading a protobuf map
#   of messages inserts. `.get` and `in` do not.
# Matters: a misspelt or renamed output gives a client an empty list of scores in place of an error;
#   a log line that reads one for debugging changes what is stored or passed on.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow-serving-api==2.21.0 protobuf==7.36.2
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
from tensorflow_serving.apis import predict_pb2

response = predict_pb2.PredictResponse()
response.outputs["scores"].float_val.append(0.9)
absent = "scoers" not in response.outputs and response.outputs.get("scoers") is None
scores = list(response.outputs["scoers"].float_val)
outputs = sorted(response.outputs)
print("read by a wrong name:", scores, "outputs after it:", outputs)
if not absent or scores or outputs != ["scoers", "scores"]:
    raise SystemExit("Changed: reading an output that is not there no longer makes it.")
EOF
