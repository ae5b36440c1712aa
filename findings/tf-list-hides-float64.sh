#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: tf.make_tensor_proto gives a number the same dtype alone and in a list.
# Seen: np.float64(1) and an array of it become DT_DOUBLE, the list [np.float64(1)] DT_FLOAT.
# Matters: a served model takes one of them and refuses the other ("Expects arg[0] to be float but
#   double is provided"). A client that was tried with a list of means fails when somebody turns it
#   into an array, or when there is only one. Say dtype= every time.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import numpy as np
import tensorflow as tf

one = np.float64(1)
cases = {"alone": one, "in an array": np.array([one]), "in a list": [one]}
seen = {
    name: tf.dtypes.as_dtype(tf.make_tensor_proto(value).dtype).name
    for name, value in cases.items()
}
print(seen)
if list(seen.values()) != ["float64", "float64", "float32"]:
    raise SystemExit("Changed: a list of float64 is sent otherwise.")
EOF
