"""From a picture of a digit to what MNIST is, inside the graph, so that no caller can get it wrong.

MNIST's makers scaled each digit to fit 20×20 pixels keeping its ratio, smoothed by the scaling,
and placed it in 28×28 with its centre of mass in the middle, white ink on black
(Y. LeCun, C. Cortes, C. Burges, "The MNIST database"). `normalise` does the same to any picture.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

SIDE = 28  # pixels, of the network's input
BOX = 20  # pixels, the longer side of the digit in it

# What would hurt the server is refused by its header, before it is decoded.
MAX_FILE_BYTES = 1 << 20
MAX_SIDE = 4096  # pixels; 4096 × 4096 RGBA takes 64 MiB
# Each scan of a JPEG goes over all of its pixels, and 26 bytes can be one: 1 MiB of them took
# 100 s. Progressive files have about 10.
MAX_SCANS = 64

_WORKING_SIDE = 512.0  # pixels; larger pictures are shrunk first, which also averages noise away
_BORDER = 0.06  # share of the picture, on each side, taken to be bare paper
_BLANK = 0.08  # a picture whose strongest ink differs less than this from its paper is blank
_PAPER_SIDE = 96.0  # pixels; the light changes slowly
_PAPER_FITS = 6  # reweightings after which the fit to the paper has settled
_DIM = 0.25  # light paper is taken to be at least this bright
_EDGE = 0.1  # ink weaker than this does not count when the digit is cropped
_THINNEST, _WIDEST = 2.3, 3.2  # pixels of 28, of strokes left as they are; MNIST's median is 2.4
_FINE = 5  # samples per pixel, where strokes are made thinner or thicker
_MOST = 2.0  # pixels on each side of a stroke

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def _normalise_files(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(
        lambda item: normalise(decode(*item)),
        (image_bytes, tf.range(tf.size(image_bytes))),
        fn_output_signature=tf.TensorSpec([SIDE, SIDE], tf.uint8),
    )


# PNG or JPEG files, string [n] → uint8 [n, 28, 28]. The graph raises INVALID_ARGUMENT for another
# format, more than `MAX_FILE_BYTES`, a side longer than `MAX_SIDE`, a JPEG of more than
# `MAX_SCANS`, a broken file.
normalise_files: Callable[[tf.Tensor], tf.Tensor] = tf.function(
    _normalise_files, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
)


def decode(data: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """One file, string [] → grey, float32 [h, w] in 0..1, transparency over white paper.

    Large pictures come out shrunk, the longer side `_WORKING_SIDE`.
    """
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
    rgba, white = tf.cond(is_png, lambda: _decode_png(data), lambda: _decode_jpeg(data))
    rgba = _shrunk(rgba) / white
    grey, opacity = tf.image.rgb_to_grayscale(rgba[:, :, :3]), rgba[:, :, 3:]
    return tf.squeeze(opacity * grey + (1.0 - opacity), axis=2)


def normalise(grey: tf.Tensor) -> tf.Tensor:
    """A grey picture of one digit, float32 [h, w] in 0..1 → uint8 [28, 28] as in MNIST."""
    return place(_redrawn(_ink(grey)))


def place(ink: tf.Tensor) -> tf.Tensor:
    """Ink of one digit, float32 [h, w] in 0..1 → uint8 [28, 28]: cropped, scaled, centred."""
    blank = tf.zeros([SIDE, SIDE], tf.uint8)
    held = _held(ink)
    return tf.cond(tf.size(held) > 0, lambda: _centred(_fitted(ink, held)), lambda: blank)


def _required(data: tf.Tensor, condition: tf.Tensor, index: tf.Tensor, *words: object) -> tf.Tensor:
    """The data, once the condition holds: what uses it waits for the check.

    Without that order the graph decodes and checks at once. The index tells which file of a batch
    is at fault.
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
    """Pixels uint8 [h, w, 4], and what full strength is in each channel, float32 [4]."""
    rgba = tf.io.decode_png(data, channels=4)
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(data, 24, 2), tf.uint8), num=2)
    # TensorFlow leaves 1, 2 and 4 bits at that scale, opacity included; but it scales a palette's
    # colours, and everything where a shade is declared transparent.
    coarse = tf.bitwise.left_shift(1, tf.cast(tf.minimum(depth, 8), tf.int32)) - 1
    is_coarse = tf.cast(tf.reduce_max(rgba[:, :, 3]), tf.int32) <= coarse
    opacity_white = tf.where(is_coarse, coarse, 255)
    colour_white = tf.where(tf.equal(colour, 0), opacity_white, 255)
    white = tf.stack([colour_white, colour_white, colour_white, opacity_white])
    return rgba, tf.cast(white, tf.float32)


def _decode_jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    rgb = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    opaque = tf.fill(tf.shape(rgb[:, :, :1]), tf.constant(255, tf.uint8))
    return tf.concat([rgb, opaque], axis=2), tf.fill([4], 255.0)


def _shrunk(rgba: tf.Tensor) -> tf.Tensor:
    scale = _WORKING_SIDE / tf.cast(tf.reduce_max(tf.shape(rgba)), tf.float32)
    return tf.cond(scale < 1.0, lambda: _resized(rgba, scale), lambda: tf.cast(rgba, tf.float32))


def _resized(image: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """An image [h, w, channels] of any dtype, scaled, as float32."""
    size = tf.cast(tf.shape(image)[:2], tf.float32) * scale
    size = tf.maximum(1, tf.cast(tf.round(size), tf.int32))
    return tf.image.resize(image, size, "bilinear", antialias=True)


def _ink(grey: tf.Tensor) -> tf.Tensor:
    """How much ink each pixel holds, 0..1, on light or dark paper, under uneven light."""
    paper = _paper(grey)
    difference = grey - paper
    is_dark_paper = tf.reduce_sum(tf.nn.relu(difference) ** 2) > tf.reduce_sum(
        tf.nn.relu(-difference) ** 2
    )
    # Light falls on ink and paper alike: dark ink is known by its share of the paper's brightness.
    signed = tf.where(is_dark_paper, difference, -difference / tf.maximum(paper, _DIM))
    # What the paper itself shows (grain, JPEG noise) is no ink. 4.5 medians are 3 sigmas.
    noise = tf.minimum(4.5 * _median(tf.abs(tf.boolean_mask(signed, _border(grey)))), 0.3)
    strongest = tf.reduce_max(signed)
    ink = tf.nn.relu(signed - noise) / tf.maximum(strongest - noise, _BLANK)
    # Of so many pixels some exceed 4 sigmas on any paper; 6 hardly any, unless JPEG clumps them.
    is_blank = strongest <= tf.maximum(_BLANK, 2.0 * noise)
    return tf.where(is_blank, tf.zeros_like(ink), tf.minimum(ink, 1.0))


def _median(values: tf.Tensor) -> tf.Tensor:
    return tf.sort(values)[tf.size(values) // 2]


def _border(grey: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(grey), num=2)
    margin = tf.cast(tf.math.ceil(_BORDER * tf.cast(tf.shape(grey), tf.float32)), tf.int32)
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)[tf.newaxis, :]
    return (
        (rows < margin[0])
        | (rows >= height - margin[0])
        | (columns < margin[1])
        | (columns >= width - margin[1])
    )


def _paper(grey: tf.Tensor) -> tf.Tensor:
    """Brightness of the bare paper, [h, w]: the quadratic surface that fits the border best.

    Best is the least absolute difference, by reweighted least squares, so that ink which runs over
    the edge does not tilt the surface.
    """
    scale = _PAPER_SIDE / tf.cast(tf.reduce_max(tf.shape(grey)), tf.float32)
    coarse = _resized(grey[:, :, tf.newaxis], tf.minimum(1.0, scale))[:, :, 0]
    border = _border(coarse)
    brightness = tf.boolean_mask(coarse, border)
    sample = tf.stack([tf.boolean_mask(term, border) for term in _terms(coarse)], axis=1)
    distances = tf.ones_like(brightness)
    for _ in range(_PAPER_FITS):
        weights = 1.0 / tf.maximum(distances, 0.003)
        weighted = tf.transpose(sample) * weights / tf.reduce_sum(weights)
        normal = weighted @ sample + 1e-4 * tf.eye(6)  # solvable also for a line or a dot
        surface = tf.linalg.solve(normal, tf.linalg.matvec(weighted, brightness)[:, tf.newaxis])[
            :, 0
        ]
        distances = tf.abs(tf.linalg.matvec(sample, surface) - brightness)
    return tf.add_n([c * term for c, term in zip(tf.unstack(surface), _terms(grey), strict=True)])


def _terms(grey: tf.Tensor) -> list[tf.Tensor]:
    """What a quadratic surface is made of, six times float32 [h, w]; the picture spans -1..1."""
    height, width = tf.unstack(tf.cast(tf.shape(grey), tf.float32), num=2)
    y = (2.0 * tf.range(height) + 1.0) / height - 1.0
    x = (2.0 * tf.range(width) + 1.0) / width - 1.0
    x, y = tf.meshgrid(x, y)
    return [tf.ones_like(x), x, y, x * y, x * x, y * y]


def _redrawn(ink: tf.Tensor) -> tf.Tensor:
    """The digit with strokes as thin or thick as MNIST's, float32 [h, w] → float32 [h', w'].

    Scaled down to MNIST's size, a marker's strokes run into each other and a fine pen's fade,
    although they do not in the picture. A digit of few pixels is left as it is: it shows no more
    than MNIST does.
    """
    held = _held(ink)
    return tf.cond(tf.size(held) > 0, lambda: _with_stroke(_cropped(ink, held)), lambda: ink)


def _with_stroke(digit: tf.Tensor) -> tf.Tensor:
    digit = digit[:, :, tf.newaxis]
    longer = tf.cast(tf.reduce_max(tf.shape(digit)), tf.float32)
    width = _stroke_width(_resized(digit, BOX / longer)[:, :, 0])
    wanted = tf.clip_by_value(width, _THINNEST, _WIDEST)
    # What comes out is scaled to the box again, and its strokes with it.
    grow = tf.clip_by_value((wanted - width) / 2 * BOX / (BOX - wanted), -_MOST, _MOST)
    return tf.cond(
        (longer > 2 * BOX) & tf.not_equal(grow, 0.0),
        lambda: _grown(_resized(digit, BOX * _FINE / longer), _FINE * grow),
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


def _held(ink: tf.Tensor) -> tf.Tensor:
    """Where the digit's strokes are: int64 [k, 2] of rows and columns."""
    # A lone speck is no stroke: its neighbourhood must hold ink, too.
    around = tf.nn.avg_pool2d(ink[tf.newaxis, :, :, tf.newaxis], 3, 1, "SAME")[0, :, :, 0]
    return tf.where((ink > _EDGE) & (around > _EDGE / 2))


def _cropped(ink: tf.Tensor, held: tf.Tensor) -> tf.Tensor:
    top, left = tf.unstack(tf.reduce_min(held, axis=0), num=2)
    bottom, right = tf.unstack(tf.reduce_max(held, axis=0) + 1, num=2)
    return ink[top:bottom, left:right]


def _fitted(ink: tf.Tensor, held: tf.Tensor) -> tf.Tensor:
    """Crop to where ink is held and scale the longer side to `BOX`."""
    digit = _cropped(ink, held)
    scale = BOX / tf.cast(tf.reduce_max(tf.shape(digit)), tf.float32)
    digit = _resized(digit[:, :, tf.newaxis], scale)[:, :, 0]
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
    return tf.cast(tf.round(tf.ensure_shape(field, [SIDE, SIDE]) * 255.0), tf.uint8)
