#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Python 3.11, x86-64 with AVX (600 MB to install).
# Expected: tf.cast treats each number by itself. What it does with 300.0 as uint8 is not promised,
#   but one operation does it one way.
# Seen: 300.0 becomes 44 in tensors of up to 31 elements, and 255 in longer ones but for a rest at
#   their end, which becomes 44: one tensor holds both. Compiled by XLA it is 255 throughout.
# Matters: pictures that resizing or contrast pushed past 255 come out right in one batch size and
#   wrapped to black in another, and a test of one row says nothing of sixty-four. tf.saturate_cast
#   is 255 everywhere.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import tensorflow as tf


def values(convert, count):
    return sorted(set(convert(tf.fill([count], 300.0), tf.uint8).numpy().tolist()))


lengths = range(1, 131)
seen = {count: values(tf.cast, count) for count in lengths}
print("300.0 as uint8: alone", seen[1], "of 33", seen[33], "of 130", seen[130])
if seen[1] != [44] or [44, 255] not in seen.values():
    raise SystemExit("Changed: tf.cast treats 300.0 alike in tensors of all lengths.")
compiled = tf.function(tf.cast, autograph=False, jit_compile=True)
if values(compiled, 33) != [255]:
    raise SystemExit("Changed: XLA no longer makes 255 of 300.0.")
if any(values(tf.saturate_cast, count) != [255] for count in (1, 33, 130)):
    raise SystemExit("Changed: tf.saturate_cast no longer makes 255 of 300.0.")
EOF
