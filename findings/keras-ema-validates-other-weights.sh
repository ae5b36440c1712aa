#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: the last val_loss of `fit` is the loss of the network that `fit` leaves behind.
# Seen: with use_ema=True validation measures the raw weights, and the average replaces them only
#   when training ends: the last val_loss was 0.74, `evaluate` right after it on the same data 0.89.
# Matters: a gate, an EarlyStopping or a model card that reads the history judges a network that is
#   never exported, in either direction. Evaluate after `fit`.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import keras
import numpy as np

inputs = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
labels = inputs.sum(axis=1) > 0


def last_and_evaluated(**averaging):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.01, **averaging), "binary_crossentropy")
    data = (inputs, labels)
    history = model.fit(*data, epochs=3, validation_data=data, verbose=0).history
    return history["val_loss"][-1], model.evaluate(*data, verbose=0)


plain, averaged = last_and_evaluated(), last_and_evaluated(use_ema=True)
print("last val_loss and evaluate: plain %.4f %.4f, use_ema %.4f %.4f" % (plain + averaged))
if abs(plain[0] - plain[1]) > 1e-5:
    raise SystemExit("Changed: they differ without an average, too.")
if abs(averaged[0] - averaged[1]) < 0.05:
    raise SystemExit("Changed: with use_ema, validation now measures what is left behind.")
EOF
