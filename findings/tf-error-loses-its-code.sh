#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Python 3.11 (600 MB to install).
# Expected: an operation that refuses its input raises a class of tf.errors, with its code.
# Seen: if the message quotes bytes of the input that are not UTF-8, Python raises
#   UnicodeDecodeError instead: neither class nor code nor message reach the caller.
# Matters: the string inputs of served models are pictures and tf.Examples, so most of what goes
#   wrong with them quotes such bytes. `except tf.errors.OpError` around a call, or a test that
#   expects InvalidArgumentError, misses exactly these.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import tensorflow as tf


def raised(text):
    try:
        tf.strings.to_number([text])
    except Exception as error:
        return type(error).__name__
    return "nothing"


seen = raised(b"abc"), raised(b"\xff\xd8")
print("a text that is no number raises %s, the first bytes of a JPEG %s" % seen)
if seen != ("InvalidArgumentError", "UnicodeDecodeError"):
    raise SystemExit("Changed: errors that quote bytes are no longer lost.")
EOF
