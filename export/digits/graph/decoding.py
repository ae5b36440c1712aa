"""From bytes to pixels, inside the graph; what would hurt the server is refused.

A file is refused by what it declares, before it is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

MAX_FILE_BYTES = 1 << 20
MAX_SIDE = 4096  # pixels; 4096 × 4096 RGBA takes 64 MiB
# Each scan of a JPEG goes over all of its pixels; progressive files have about 10.
MAX_SCANS = 64

_WORKING_SIDE = 512.0  # pixels; larger pictures are shrunk, which also averages noise away

_HEAD = 1 << 16  # bytes, in which the EXIF data are looked for
# Their entry about the way up, one number of 16 bits, in either byte order (EXIF 2.32, 4.6.2).
_WAYS_UP = b"\x01\x12\0\x03\0\0\0\x01", b"\x12\x01\x03\0\x01\0\0\0"

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode(data: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """One file, string [] → grey, float32 [h, w] in 0..1; see `decode_colour`."""
    grey = tf.constant([0.299, 0.587, 0.114])  # ITU-R BT.601
    return _on_paper(*_pixels(data, index), grey[:, tf.newaxis])[:, :, 0]


def decode_colour(data: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """One file, string [] → float32 [h, w, 3] in 0..1, transparency over white paper.

    Large pictures come out shrunk, the longer side 512 pixels, and turned as their EXIF data say.
    The graph raises INVALID_ARGUMENT for another format, more than `MAX_FILE_BYTES`, a side longer
    than `MAX_SIDE`, a JPEG of more than `MAX_SCANS`, a broken file; the text names the file by its
    index in the batch.
    """
    return _on_paper(*_pixels(data, index), tf.eye(3))


def _pixels(data: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a file: float32 [h, w, 4] in 0..255, and what full opacity is in them, float32 []."""
    length = tf.strings.length(data)
    data = _required(
        data, length <= MAX_FILE_BYTES, index, "is larger than", MAX_FILE_BYTES, "bytes:", length
    )
    magic = tf.strings.substr(data, 0, tf.minimum(length, 8))
    is_png = tf.logical_and(tf.equal(magic, _PNG), length > 26)
    is_jpeg = tf.equal(tf.strings.substr(data, 0, tf.minimum(length, 3)), _JPEG)
    begin = tf.io.decode_raw(magic, tf.uint8)  # as numbers: an error's text must be UTF-8
    data = _required(data, is_png | is_jpeg, index, "is no PNG or JPEG: it begins with", begin)
    sides = tf.cond(is_png, lambda: _png_sides(data), lambda: tf.image.extract_jpeg_shape(data)[:2])
    fits = tf.reduce_all((sides > 0) & (sides <= MAX_SIDE))
    data = _required(data, fits, index, "declares", sides, "pixels; a side has at most", MAX_SIDE)
    scans = tf.cond(is_png, lambda: 0, lambda: _jpeg_scans(data))
    few = scans <= MAX_SCANS
    data = _required(data, few, index, "has", scans, "scans; a JPEG has at most", MAX_SCANS)
    rgba, opaque = tf.cond(is_png, lambda: _decode_png(data), lambda: _decode_jpeg(data))
    return _turned(_shrunk(rgba), _way_up(data)), opaque


def unpacked(data: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Images without a format, string [n], a byte a value, row by row → uint8 [n, *shape].

    The graph raises INVALID_ARGUMENT for another length; the text names the first such image.
    """
    lengths = tf.strings.length(data)
    wanted = math.prod(shape)
    wrong = tf.cast(tf.where(lengths != wanted)[:1, 0], tf.int32)
    none_wrong, length = tf.equal(tf.size(wrong), 0), tf.gather(lengths, wrong)
    data = _required(data, none_wrong, wrong, "has", length, "bytes, not", wanted)
    return tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, *shape])


def resized(image: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """An image [h, w, channels] of any dtype, scaled, as float32."""
    size = tf.cast(tf.shape(image)[:2], tf.float32) * scale
    size = tf.maximum(1, tf.cast(tf.round(size), tf.int32))
    return tf.image.resize(image, size, "bilinear", antialias=True)


def _required(data: tf.Tensor, condition: tf.Tensor, index: tf.Tensor, *words: object) -> tf.Tensor:
    """The data, once the condition holds: what uses it waits for the check.

    Without that order the graph decodes and checks at once.
    """
    check = tf.debugging.Assert(condition, ["image", index, *words], summarize=8)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(data)


def _png_sides(data: tf.Tensor) -> tf.Tensor:
    """Height and width, int32 [2], from the IHDR chunk, which is always first (PNG, 11.2.2)."""
    sides = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
    return tf.reverse(sides, [0])


def _jpeg_scans(data: tf.Tensor) -> tf.Tensor:
    """How often the marker that begins a scan occurs, int32 []; metadata may add a few."""
    values = tf.io.decode_raw(data, tf.uint8)
    return tf.math.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA), dtype=tf.int32)


def _decode_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels uint8 [h, w, 4], and what full opacity is in them, float32 []."""
    rgba = tf.io.decode_png(data, channels=4)
    depth = tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)[0]
    opaque = tf.cond(depth < 8, lambda: _opaque_of_few_bits(rgba, depth), lambda: 255.0)
    return rgba, opaque


def _opaque_of_few_bits(rgba: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
    """TensorFlow scales shades of 1, 2 or 4 bits, and leaves the opacity it adds at 1, 3 or 15."""
    most = tf.bitwise.left_shift(tf.constant(1, tf.uint8), depth) - 1
    is_added = tf.reduce_all(tf.equal(rgba[:, :, 3], most))
    return tf.where(is_added, tf.cast(most, tf.float32), 255.0)


def _decode_jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    rgb = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    opaque = tf.fill(tf.shape(rgb[:, :, :1]), tf.constant(255, tf.uint8))
    return tf.concat([rgb, opaque], axis=2), tf.constant(255.0)


def _way_up(data: tf.Tensor) -> tf.Tensor:
    """What a file's EXIF data say about the way up, int32 [], 1 to 8; 1 where they say nothing."""
    head = tf.strings.substr(data, 0, _HEAD)[tf.newaxis]
    said = [
        # What follows the first such entry; both bytes of the number, one of which is 0.
        tf.concat([tf.raw_ops.StringSplitV2(input=head, sep=entry, maxsplit=1).values, [b""]], 0)[1]
        for entry in _WAYS_UP
    ]
    number = tf.io.decode_raw(tf.strings.substr(tf.strings.join(said), 0, 2), tf.uint8)
    way_up = tf.reduce_max(tf.cast(number, tf.int32))
    return tf.where((way_up >= 1) & (way_up <= 8), way_up, 1)


def _turned(image: tf.Tensor, way_up: tf.Tensor) -> tf.Tensor:
    """An image [h, w, 4] as it is to be seen (EXIF 2.32, 4.6.4: Orientation)."""

    def upright() -> tf.Tensor:
        turned = tf.cond(way_up >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        down, across = 1 - (way_up - 1) // 2 % 2 * 2, 1 - way_up // 2 % 2 * 2
        return tf.ensure_shape(turned[::down, ::across], [None, None, 4])

    return tf.cond(way_up > 1, upright, lambda: image)


def _on_paper(rgba: tf.Tensor, opaque: tf.Tensor, mix: tf.Tensor) -> tf.Tensor:
    """Of float32 [h, w, 4] in 0..255, on white paper: float32 [h, w, k] in 0..1.

    `mix`, float32 [3, k], makes of red, green and blue what is wanted.
    """
    colours = tf.pad(mix / 255.0, [[0, 1], [0, 0]])
    opacity = tf.constant([[0.0], [0.0], [0.0], [1.0]]) / opaque
    pixels = tf.reshape(rgba, [-1, 4]) @ tf.concat([colours, opacity], axis=1)
    colours, opacity = pixels[:, :-1], pixels[:, -1:]
    height, width = tf.unstack(tf.shape(rgba)[:2])
    return tf.reshape(opacity * colours + (1.0 - opacity), [height, width, mix.shape[1]])


def _shrunk(rgba: tf.Tensor) -> tf.Tensor:
    scale = _WORKING_SIDE / tf.cast(tf.reduce_max(tf.shape(rgba)), tf.float32)
    return tf.cond(scale < 1.0, lambda: resized(rgba, scale), lambda: tf.cast(rgba, tf.float32))
