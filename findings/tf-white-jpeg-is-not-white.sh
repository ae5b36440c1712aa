#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: tf.io.decode_image(dtype=tf.uint16) gives white as 65535, whatever the file's kind.
# Seen: white is 65535 in a PNG and 65280 in a JPEG: the one is multiplied by 257, the other by 256.
# Matters: a graph that takes both kinds and divides by 65535 never sees white paper as 1.0 when it
#   came as a JPEG. A threshold for "blank" or "overexposed" set with PNGs does not hold for
#   photographs; dtype=tf.float32 gives 1.0 for both.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import tensorflow as tf

white = tf.fill([8, 8, 1], tf.constant(255, tf.uint8))
files = tf.io.encode_png(white), tf.io.encode_jpeg(white)
seen = {
    dtype.name: [tf.io.decode_image(file, dtype=dtype).numpy().max().item() for file in files]
    for dtype in (tf.uint8, tf.uint16, tf.float32)
}
print("white as PNG and as JPEG:", seen)
if seen != {"uint8": [255, 255], "uint16": [65535, 65280], "float32": [1.0, 1.0]}:
    raise SystemExit("Changed: white is decoded otherwise.")
EOF
