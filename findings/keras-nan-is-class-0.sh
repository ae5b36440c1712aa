#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: a network whose answers are all NaN has an accuracy of NaN, or of 0.
# Seen: its accuracy is the share of class 0, for TensorFlow's argmax of nothing but NaN is 0. Where
#   some are numbers it passes NaN over, numpy's argmax finds the first NaN; and compiled by XLA the
#   same row of NaN has its last class.
# Matters: on balanced digits a destroyed network shows 10 %, as an untrained one does, so nothing
#   but a look at the probabilities tells that weights overflowed; and clients that take numpy's
#   argmax name another class than the graph does.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import keras
import numpy as np
import tensorflow as tf

nothing = np.full((4, 10), np.nan, "float32")
accuracy = float(keras.metrics.SparseCategoricalAccuracy()([0, 0, 1, 2], nothing))
print("labels 0, 0, 1, 2 and nothing but NaN: accuracy", accuracy)
if accuracy != 0.5:
    raise SystemExit("Changed: NaN is no longer counted as class 0.")

row = np.array([[np.nan, 1, 3]], "float32")
classes = int(tf.argmax(row, 1)[0]), int(np.argmax(row))
print("argmax of NaN, 1, 3: TensorFlow %d, numpy %d" % classes)
compiled = tf.function(lambda x: tf.argmax(x, 1), autograph=False, jit_compile=True)
of_nan = int(tf.argmax(nothing, 1)[0]), int(compiled(nothing)[0])
print("argmax of ten NaN: TensorFlow %d, compiled by XLA %d" % of_nan)
if classes != (2, 0) or of_nan != (0, 9):
    raise SystemExit("Changed: argmax treats NaN otherwise.")
EOF
