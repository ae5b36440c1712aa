#!/usr/bin/env bash
# Versions: TensorFlow 2.21.0, Pillow 12.0.0, Python 3.11 (600 MB to install).
# Expected: tf.io.decode_image gives the colours of a BMP, or refuses it.
# Seen: of a BMP of 256 colours it gives the numbers of the palette's entries as shades of grey: a
#   picture of pure red, green and blue is 0, 1 and 2. The same picture as a PNG is right. And
#   channels=1, which PNG and JPEG take, is refused for every BMP, a grey one as well.
# Matters: "256 Color Bitmap" of Windows' Paint is such a file. It is classified without any error,
#   as another picture. A service that takes pictures should refuse BMP before the graph.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile tensorflow==2.21.0 pillow==12.0.0
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" - <<'EOF'
import io

import tensorflow as tf
from PIL import Image

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]
picture = Image.new("P", (3, 1))
picture.putpalette(RED + GREEN + BLUE + [0] * 759)
picture.putdata([0, 1, 2])


def decoded(image, kind, channels):
    file = io.BytesIO()
    image.save(file, kind)
    return tf.io.decode_image(file.getvalue(), channels=channels).numpy()[0].tolist()


png, bmp = decoded(picture, "PNG", 3), decoded(picture, "BMP", 3)
print("as PNG", png, "as BMP", bmp)
if png != [RED, GREEN, BLUE] or bmp != [[n] * 3 for n in range(3)]:
    raise SystemExit("Changed: the palette of a BMP is no longer passed over.")
try:
    decoded(Image.new("L", (3, 1)), "BMP", 1)
except tf.errors.InvalidArgumentError as error:
    print("a grey BMP with channels=1:", error.message[-80:])
else:
    raise SystemExit("Changed: channels=1 is taken for a BMP.")
EOF
