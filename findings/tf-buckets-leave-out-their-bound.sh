#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: the bucket le="4" of a histogram counts values up to and with 4: `le` means that.
# Seen: TensorFlow's samplers, which TensorFlow Serving prints as Prometheus histograms, count a
#   value that equals a bound in the bucket above it.
# Matters: whole numbers, such as sizes of batches, often lie on a bound. Batches of just 4 are
#   missing under le="4" and appear under le="8": read as Prometheus defines it, a dashboard shows
#   batches that are larger than any that ran.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
from tensorflow.python.eager import monitoring

bounds = monitoring.ExponentialBuckets(1, 2, 4)  # 1, 2, 4, 8
sampler = monitoring.Sampler("/finding/batch_size", bounds, "sizes of batches")
for _ in range(5):
    sampler.get_cell().add(4)
seen = sampler.get_cell().value()
counts = dict(zip(seen.bucket_limit, map(int, seen.bucket)))
print("five batches of 4, by upper bound:", counts)
if counts[4] != 0 or counts[8] != 5:
    raise SystemExit("Changed: a value that equals a bound is counted within it.")
EOF
