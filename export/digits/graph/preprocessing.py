"""From a picture of a digit to what MNIST is, inside the graph, so that no caller can get it wrong.

MNIST's makers scaled each digit to fit 20×20 pixels keeping its ratio, smoothed by the scaling,
and placed it in 28×28 with its centre of mass in the middle, white ink on black
(Y. LeCun, C. Cortes, C. Burges, "The MNIST database"). `normalise` does the same to any picture.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from export.digits.graph.decoding import decode, decode_colour, resized
from export.digits.graph.ink import FEW, ink_of
from export.digits.subject import CHANNELS, SHAPE, SIDE, WHITE

BOX = round(SIDE * 20 / 28)  # pixels, the longer side of the digit in the network's input

_EDGE = 0.1  # ink weaker than this does not count when the digit is cropped
_THINNEST, _WIDEST = 2.3, 3.2  # pixels of 28, of strokes left as they are; MNIST's median is 2.4
_FINE = 5  # samples per pixel, where strokes are made thinner or thicker
_MOST = 2.0  # pixels on each side of a stroke


def _normalise_files(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    def of_file(item: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return normalise(decode(*item)) if CHANNELS == 1 else (_in_colour(*item), True)

    images, is_one = tf.map_fn(
        of_file,
        (image_bytes, tf.range(tf.size(image_bytes))),
        fn_output_signature=(tf.TensorSpec(SHAPE, tf.uint8), tf.TensorSpec([], tf.bool)),
    )
    return images, is_one


# PNG or JPEG files, string [n] → uint8 [n, *SHAPE], and whether each shows one digit, bool [n];
# the graph refuses what `decode` refuses.
normalise_files: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] = tf.function(
    _normalise_files, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
)


def _in_colour(data: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """A picture in colour is no ink on paper: it is scaled, and nothing else."""
    picture = tf.image.resize(decode_colour(data, index), [SIDE, SIDE], antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(picture, 0.0, 1.0) * WHITE), tf.uint8)


def normalise(grey: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A grey picture, float32 [h, w] in 0..1 → uint8 [28, 28] as in MNIST, and is it one digit."""
    ink, is_one = ink_of(grey)
    return place(_redrawn(ink)), is_one


def place(ink: tf.Tensor) -> tf.Tensor:
    """Ink of one digit, float32 [h, w] in 0..1 → uint8 [28, 28]: cropped, scaled, centred."""
    blank = tf.zeros([SIDE, SIDE], tf.uint8)
    digit = _cropped(ink)
    return tf.cond(tf.size(digit) > 0, lambda: _centred(_fitted(digit)), lambda: blank)


def _cropped(ink: tf.Tensor) -> tf.Tensor:
    """The rows and columns between the outermost that hold ink; [0, 0] if none does."""
    seen = tf.cond(tf.reduce_max(tf.shape(ink)) > FEW, lambda: ink, lambda: _without_specks(ink))
    rows, columns = (tf.where(tf.reduce_max(seen, axis) > _EDGE) for axis in (1, 0))
    top, left = tf.reduce_min(rows), tf.reduce_min(columns)
    return ink[top : tf.reduce_max(rows) + 1, left : tf.reduce_max(columns) + 1]


def _without_specks(ink: tf.Tensor) -> tf.Tensor:
    """A lone speck is no stroke: its neighbourhood must hold ink, too."""
    around = tf.nn.avg_pool2d(ink[tf.newaxis, :, :, tf.newaxis], 3, 1, "SAME")[0, :, :, 0]
    return tf.where(around > _EDGE / 2, ink, 0.0)


def _redrawn(ink: tf.Tensor) -> tf.Tensor:
    """The digit with strokes as thin or thick as MNIST's, float32 [h, w] → float32 [h', w'].

    Scaled down to MNIST's size, a marker's strokes run into each other and a fine pen's fade,
    although they do not in the picture. A digit of few pixels is left as it is: it shows no more
    than MNIST does.
    """
    digit = _cropped(ink)
    return tf.cond(tf.size(digit) > 0, lambda: _with_stroke(digit), lambda: digit)


def _with_stroke(digit: tf.Tensor) -> tf.Tensor:
    digit = digit[:, :, tf.newaxis]
    longer = tf.cast(tf.reduce_max(tf.shape(digit)), tf.float32)
    width = _stroke_width(resized(digit, BOX / longer)[:, :, 0])
    wanted = tf.clip_by_value(width, _THINNEST, _WIDEST)
    # What comes out is scaled to the box again, and its strokes with it.
    grow = tf.clip_by_value((wanted - width) / 2 * BOX / (BOX - wanted), -_MOST, _MOST)
    return tf.cond(
        (longer > 2 * BOX) & tf.not_equal(grow, 0.0),
        lambda: _grown(resized(digit, BOX * _FINE / longer), _FINE * grow),
        lambda: digit,
    )[:, :, 0]


def _stroke_width(digit: tf.Tensor) -> tf.Tensor:
    """In pixels: a stroke's area over its length, which is half of its outline's."""
    padded = tf.pad(digit, [[1, 1], [1, 1]])
    down, across = padded[1:, :-1] - padded[:-1, :-1], padded[:-1, 1:] - padded[:-1, :-1]
    outline = tf.reduce_sum(tf.sqrt(down**2 + across**2))
    return 2.0 * tf.reduce_sum(digit) / outline


def _grown(ink: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Ink [h, w, 1] with `by` pixels more on every side, or less: the most, or least, around."""
    reach = tf.math.ceil(tf.abs(by))
    steps = tf.range(-reach, reach + 1.0)
    beyond = tf.sqrt(steps[:, tf.newaxis] ** 2 + steps**2) - tf.abs(by)
    disc = -tf.clip_by_value(beyond, 0.0, 1.0)[:, :, tf.newaxis]
    room = tf.cast(reach, tf.int32)
    page = tf.pad(ink, [[room, room], [room, room], [0, 0]])[tf.newaxis]
    options = {"strides": [1] * 4, "padding": "SAME", "data_format": "NHWC", "dilations": [1] * 4}
    return tf.cond(
        by > 0.0,
        lambda: tf.nn.dilation2d(page, disc, **options),
        lambda: tf.nn.erosion2d(page, disc, **options),
    )[0]


def _fitted(digit: tf.Tensor) -> tf.Tensor:
    """Scale the longer side to `BOX`."""
    scale = BOX / tf.cast(tf.reduce_max(tf.shape(digit)), tf.float32)
    digit = resized(digit[:, :, tf.newaxis], scale)[:, :, 0]
    # Scaling thins a fine pen's ink; MNIST's strokes reach full white.
    return tf.clip_by_value(digit / tf.reduce_max(digit), 0.0, 1.0)


def _centred(digit: tf.Tensor) -> tf.Tensor:
    """Place the digit in 28×28 with its centre of mass in the middle."""
    height, width = tf.unstack(tf.shape(digit), num=2)
    mass = tf.reduce_sum(digit)
    row = tf.reduce_sum(tf.reduce_sum(digit, 1) * tf.range(tf.cast(height, tf.float32))) / mass
    column = tf.reduce_sum(tf.reduce_sum(digit, 0) * tf.range(tf.cast(width, tf.float32))) / mass
    middle = SIDE / 2  # where MNIST's own digits have it, counting pixels from 0
    top = tf.clip_by_value(tf.cast(tf.round(middle - row), tf.int32), 0, SIDE - height)
    left = tf.clip_by_value(tf.cast(tf.round(middle - column), tf.int32), 0, SIDE - width)
    field = tf.pad(digit, [[top, SIDE - height - top], [left, SIDE - width - left]])
    return tf.cast(tf.round(tf.ensure_shape(field, [SIDE, SIDE]) * WHITE), tf.uint8)
