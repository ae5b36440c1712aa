#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Pillow 12.0.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: two programs on libjpeg-turbo read the same pixels from the same JPEG.
# Seen: tf.io.decode_jpeg and decode_image take the fast, approximate transform unless told
#   otherwise: half of the values differ from Pillow's by 1 or 2. With
#   dct_method="INTEGER_ACCURATE" every value is the same; decode_image has no such argument.
# Matters: who trains on pictures that Pillow or keras.utils.load_img read, and serves a graph that
#   decodes them itself, serves other inputs than were trained on: no parity test to the bit holds.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 pillow==12.0.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import io

import numpy as np
import tensorflow as tf
from PIL import Image

blocks = np.random.default_rng(0).integers(0, 256, (8, 8, 3), "uint8")
file = io.BytesIO()
Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(file, "JPEG")
jpeg, pillow = file.getvalue(), np.asarray(Image.open(file)).astype(int)
ways = {
    "decode_jpeg": tf.io.decode_jpeg(jpeg),
    "decode_image": tf.io.decode_image(jpeg),
    "INTEGER_ACCURATE": tf.io.decode_jpeg(jpeg, dct_method="INTEGER_ACCURATE"),
}
apart = {name: np.abs(pixels.numpy() - pillow) for name, pixels in ways.items()}
for name, steps in apart.items():
    print(f"{name}: {np.mean(steps > 0):.0%} of the values differ, by {steps.max()} at most")
if apart["INTEGER_ACCURATE"].any():
    raise SystemExit("Changed: the accurate transform no longer gives Pillow's pixels.")
if not apart["decode_jpeg"].any() or not apart["decode_image"].any():
    raise SystemExit("Changed: the default now gives Pillow's pixels.")
EOF
