#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, numpy 2.4.6, Python 3.11, x86-64 (600 MB to install).
# Expected: a Session computes the same from the same input, whichever thread does it.
# Seen: 1e-39 * 2 is 0.0 on the threads of TensorFlow's pool, which flush numbers below 1.2e-38, and
#   2e-39 in the caller's own thread, which RunOptions(inter_op_thread_pool=-1) asks for.
# Matters: the option saves a hand-over between threads. With it, answers that hold tiny
#   probabilities differ from those without, and a log or a division after them makes -inf or NaN of
#   the difference: to compare two ways of serving to the bit, they have to use the same threads.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
with tf.Graph().as_default(), v1.Session() as session:
    given = v1.placeholder(tf.float32, [None])
    doubled = given * 2.0
    feed = {given: np.array([1e-39], "float32")}
    pool = float(session.run(doubled, feed)[0])
    options = v1.RunOptions(inter_op_thread_pool=-1)
    caller = float(session.run(doubled, feed, options=options)[0])
print("1e-39 * 2 in the pool:", pool, "in the caller's thread:", caller)
if pool != 0.0 or not 1.9e-39 < caller < 2.1e-39:
    raise SystemExit("Changed: subnormal numbers fare alike in both threads.")
EOF
