#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: tf.io.decode_and_crop_jpeg is decode_jpeg and a slice, only faster.
# Seen: along the window's edge colours differ, here by up to 73 of 255: JPEG keeps colour at half
#   the resolution, and the window is smoothed without the neighbours outside of it.
# Matters: input pipelines use it for random crops in training, and the served graph decodes the
#   whole picture. Small windows are nearly all edge.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import numpy as np
import tensorflow as tf

blocks = np.random.default_rng(0).integers(0, 256, (8, 8, 3), "uint8")
jpeg = tf.io.encode_jpeg(blocks.repeat(8, axis=0).repeat(8, axis=1), quality=75)
top, left, height, width = 8, 8, 40, 40
whole = tf.io.decode_jpeg(jpeg).numpy().astype(int)[top : top + height, left : left + width]
window = tf.io.decode_and_crop_jpeg(jpeg, [top, left, height, width]).numpy()

apart = np.abs(whole - window).max(axis=2)
inner = apart[2:-2, 2:-2].max()
print(f"largest difference: {apart.max()} at the edge, {inner} two pixels within")
if apart.max() < 10:
    raise SystemExit("Changed: a decoded window is now the slice of the decoded picture.")
if inner:
    raise SystemExit("Changed: the difference is no longer kept to the edge.")
EOF
