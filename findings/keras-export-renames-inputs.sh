#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: the signature's input is called as the Keras input is.
# Seen: Keras takes `pen-strokes` and `1st` and answers to them, and the SavedModel has
#   `pen_strokes` and `arg_1st`: names become Python identifiers on the way. A line among the log's
#   warnings says so.
# Matters: a client written from the Keras code sends names that the server refuses. Whoever
#   publishes a model has to read the names from the SavedModel, not from `model.input_names`.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - "$work" <<'EOF'
import sys

import keras
import tensorflow as tf

inputs = [keras.Input((2,), name="pen-strokes"), keras.Input((2,), name="1st")]
model = keras.Model(inputs, keras.layers.Add()(inputs))
row = tf.ones((1, 2))
model({"pen-strokes": row, "1st": row})  # Keras knows them by these names

model.export(sys.argv[1] + "/exported", verbose=False)
signature = tf.saved_model.load(sys.argv[1] + "/exported").signatures["serving_default"]
names = sorted(signature.structured_input_signature[1])
print("in Keras:", [tensor.name for tensor in inputs], "in the SavedModel:", names)
if names != ["arg_1st", "pen_strokes"]:
    raise SystemExit("Changed: the signature's names are not what they were.")
EOF
