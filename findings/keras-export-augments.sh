#!/usr/bin/env bash
# Versions: Keras 3.15.1, TensorFlow 2.21.0, numpy 2.4.6, Python 3.11 (600 MB to install).
# Expected: layers such as RandomRotation work in training only, so an exported model gives the
#   answers that `predict` gives.
# Seen: the SavedModel of `model.export` goes on augmenting. Each call turns the picture by another
#   angle, while `predict` in Python leaves it alone. Dropout and GaussianNoise do stop.
# Matters: a network with augmentation inside it passes every test in Python, and the server gives
#   the same picture different answers. An ExportArchive endpoint that says training=False is right.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - "$work" <<'EOF'
import sys

import keras
import numpy as np
import tensorflow as tf

images = np.random.default_rng(0).random((4, 8, 8, 1), "float32")
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.RandomRotation(0.2)])
model.export(f"{sys.argv[1]}/exported", verbose=False)
archive = keras.export.ExportArchive()
archive.track(model)
spec = [tf.TensorSpec([None, 8, 8, 1])]
archive.add_endpoint("serve", lambda x: model(x, training=False), input_signature=spec)
archive.write_out(f"{sys.argv[1]}/archived", verbose=False)
exported, archived = (tf.saved_model.load(f"{sys.argv[1]}/{n}") for n in ("exported", "archived"))

answers = {
    "predict": model.predict(images, verbose=0),
    "export, first call": exported.serve(images),
    "export, second call": exported.serve(images),
    "ExportArchive": archived.serve(images),
}
same = {name: bool(np.allclose(answer, images)) for name, answer in answers.items()}
print("leaves the images as they are:", same)
if list(same.values()) != [True, False, False, True]:
    raise SystemExit("Changed: an exported RandomRotation no longer differs from predict.")
if np.allclose(answers["export, first call"], answers["export, second call"]):
    raise SystemExit("Changed: an exported RandomRotation turns every call by the same angle.")
EOF
