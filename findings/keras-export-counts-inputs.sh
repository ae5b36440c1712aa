#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: the same code gives a SavedModel with the same signature.
# Seen: an input without a name is called by a counter of the whole process: the first model's
#   input is `keras_tensor`, that of the very same model made again `keras_tensor_3`. Nothing warns.
# Matters: the input's name is part of what callers send over gRPC and in REST's named form. A
#   notebook cell that is run twice, or one more layer elsewhere, breaks every client of the next
#   version. Give each Input a name.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - "$work" <<'EOF'
import sys

import keras
import tensorflow as tf


def input_names(folder):
    layers = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)]
    keras.Sequential(layers).export(folder, verbose=False)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return list(signature.structured_input_signature[1])


names = [input_names(f"{sys.argv[1]}/{n}") for n in (1, 2)]
print("inputs of the same model, exported twice in one process:", names)
if names != [["keras_tensor"], ["keras_tensor_3"]]:
    raise SystemExit("Changed: an unnamed input is no longer called by a counter of the process.")
EOF
