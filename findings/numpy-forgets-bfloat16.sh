#!/usr/bin/env bash
# Versions: numpy 2.4.6, ml_dtypes 0.6.0 (TensorFlow's and Keras' bfloat16), Python 3.11.
# Expected: np.save and np.load give an array of bfloat16 back, or np.save refuses it.
# Seen: it is saved without a word and comes back as `V2`, two bytes without a meaning; and while it
#   is a bfloat16, np.issubdtype says that it is no floating number.
# Matters: golden answers of a bfloat16 model cannot be compared after a round through .npz, and a
#   check for NaN that asks np.issubdtype first passes them over. Save as float32: nothing is lost.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6 ml_dtypes==0.6.0
"$work/venv/bin/python" - <<'EOF'
import io

import ml_dtypes
import numpy as np

answers = np.array([0.5, 0.25], ml_dtypes.bfloat16)
file = io.BytesIO()
np.save(file, answers)
file.seek(0)
loaded = np.load(file)
floating = bool(np.issubdtype(answers.dtype, np.floating))
print(f"saved {answers.dtype}, loaded {loaded.dtype}; a floating number: {floating}")
if loaded.dtype.str != "|V2":
    raise SystemExit("Changed: bfloat16 survives np.save.")
if floating:
    raise SystemExit("Changed: numpy takes bfloat16 for a floating number.")
EOF
