#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: a model that was built, trained and asked with uint8 pixels, or with int32 word
#   numbers, is exported with that dtype.
# Seen: without an Input the signature says float32, whatever `fit` was given; `predict` goes on
#   taking the integers.
# Matters: gRPC callers who send what the model was trained on are refused for their dtype, pixels
#   travel in four times the bytes, and word numbers above 2**24 run into each other. An
#   Input(dtype="uint8") in the first place keeps it.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - "$work" <<'EOF'
import sys

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


def exported_dtype(name, dtype, *stack):
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4), dtype), np.zeros(8), verbose=0)
    model.export(f"{sys.argv[1]}/{name}", verbose=False)
    signature = tf.saved_model.load(f"{sys.argv[1]}/{name}").signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    return spec.dtype.name


pixels, words = layers.Rescaling(1 / 255), layers.Embedding(10, 2)
declared = keras.Input((4,), dtype="uint8")
seen = {
    "trained on uint8": exported_dtype("pixels", "uint8", pixels),
    "trained on int32": exported_dtype("words", "int32", words),
    "with Input(dtype='uint8')": exported_dtype("declared", "uint8", declared, pixels),
}
print(seen)
if list(seen.values()) != ["float32", "float32", "uint8"]:
    raise SystemExit("Changed: what a model was trained on now has a say in its signature.")
EOF
