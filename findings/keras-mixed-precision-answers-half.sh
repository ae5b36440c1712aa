#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: "mixed" precision is about the inside of a network: float32 in, float32 out.
# Seen: the exported signature takes float32 and answers float16 (bfloat16 with that policy).
# Matters: TensorFlow Serving's JSON has no form for either, so every REST prediction of such a
#   model is an error, after the model has run; gRPC clients read `half_val` where they expected
#   `float_val`, which is empty. The last layer needs dtype="float32".
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - "$work" <<'EOF'
import sys

import keras
import tensorflow as tf


def dtypes(folder, **last):
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax", **last)]
    keras.Sequential(layers).export(folder, verbose=False)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    (taken,), (given,) = (
        specs.values()
        for specs in (signature.structured_input_signature[1], signature.structured_outputs)
    )
    return taken.dtype.name, given.dtype.name


seen = []
for policy in ("mixed_float16", "mixed_bfloat16"):
    keras.config.set_dtype_policy(policy)
    seen.append(dtypes(f"{sys.argv[1]}/{policy}"))
    print(f"{policy}: takes {seen[-1][0]}, answers {seen[-1][1]}")
seen.append(dtypes(f"{sys.argv[1]}/mended", dtype="float32"))
print(f"with a float32 last layer: answers {seen[-1][1]}")
if seen != [("float32", "float16"), ("float32", "bfloat16"), ("float32", "float32")]:
    raise SystemExit("Changed: models of mixed precision are exported with other dtypes.")
EOF
