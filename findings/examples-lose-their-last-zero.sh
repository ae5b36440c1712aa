#!/usr/bin/env bash
# Versions: numpy 2.4.6, TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: np.array([example.SerializeToString()]) holds the example, as it does for any other.
# Seen: numpy's strings of bytes end before trailing zeros, and a serialized tf.Example ends in them
#   when the last value of its last feature is 0: here 4 of 25 bytes are gone.
# Matters: parse_example, and so Classify and Regress on a server, refuse rows whose last number is
#   0 and take all others. Which feature comes last is not even fixed: it is a protobuf map. Keep
#   examples in lists, or in arrays of dtype object.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import numpy as np
import tensorflow as tf


def parses(last, pack):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([1.0, 2.0, last])
    try:
        packed = pack([example.SerializeToString()])
        tf.io.parse_example(packed, {"x": tf.io.FixedLenFeature([3], tf.float32)})
    except tf.errors.InvalidArgumentError:
        return False
    return True


seen = [parses(3.0, np.array), parses(0.0, np.array), parses(0.0, list)]
print("ends in 3, in an array: %s; in 0, in an array: %s; in 0, in a list: %s" % tuple(seen))
if seen != [True, False, True]:
    raise SystemExit("Changed: examples that end in 0 pass through arrays as the others do.")
EOF
