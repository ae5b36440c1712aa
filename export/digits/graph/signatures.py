"""What callers can ask of the model: five signatures over one frozen network.

signature         input                                    output
`serving_default` images uint8 [n, 28, 28]                 probabilities float32 [n, 10],
                                                           digits int64 [n]
`predict_images`  images float32 [n, 784] in 0..1          scores float32 [n, 10]
`packed`          images string [n], each the 784 bytes    as serving_default
                  of an image, row by row
`encoded`         image_bytes string [n], PNG or JPEG      as serving_default
`classify`        inputs string [n], each a tf.Example     classes string [n, 10],
                  with the file as `image/encoded`         scores float32 [n, 10], best first

The client asks `packed` over REST: 1,048 characters of base64 an image, not 1,900 of JSON numbers.
A blank image is answered with ten equal probabilities, a file that does not show one digit with
0.46 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.digits.graph.answers import of_network, told
from export.digits.graph.decoding import unpacked
from export.digits.graph.preprocessing import normalise_files
from export.digits.subject import CHANNELS, CLASSES, PIXELS, SHAPE, SIDE, WHITE

# Signature → its input.
ALIASES = {
    "serving_default": "images",
    "predict_images": "images",
    "packed": "images",
    "encoded": "image_bytes",
    "classify": "inputs",
}


def save(network: keras.Model, folder: Path) -> None:
    """Write a SavedModel with the five signatures into `folder`.

    The weights are folded in as constants: all that answers is then in one file, which cannot be
    read half-written, and what lies under `variables/` is empty. It also avoids a trap: in the
    server, every request to a `tf.Module` around a Keras model's variables fails with "Could not
    find variable".
    """
    tf.saved_model.save(tf.Module(), str(folder), signatures=trace(network))
    _name_classify_method(folder)


def inputs_for(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The same digits, uint8 [n, *SHAPE], as every signature takes them."""
    files = [tf.io.encode_png(image.reshape(SIDE, SIDE, CHANNELS)).numpy() for image in images]
    return {
        "serving_default": images,
        "predict_images": images.reshape(-1, PIXELS).astype(np.float32) / np.float32(WHITE),
        "packed": np.array([image.tobytes() for image in images], dtype=object),
        "encoded": np.array(files, dtype=object),
        "classify": np.array([example(file).SerializeToString() for file in files], dtype=object),
    }


def example(file: bytes) -> tf.train.Example:
    """What the Classify API takes: a file as the feature `image/encoded`."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    return tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))


def trace(network: keras.Model) -> dict[str, Any]:
    """Signature → what TensorFlow saves of it, a concrete function."""
    frozen = _frozen(network)

    def probabilities_of(images: tf.Tensor) -> tf.Tensor:
        return frozen(tf.cast(images, tf.float32) / WHITE)

    def of_files(image_bytes: tf.Tensor) -> tf.Tensor:
        images, is_one = normalise_files(image_bytes)
        return told(probabilities_of(images), is_one)

    def with_digits(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities, "digits": tf.argmax(probabilities, axis=1)}

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return with_digits(probabilities_of(images))

    def predict_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": frozen(tf.reshape(images, [-1, *SHAPE]))}

    def packed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return with_digits(probabilities_of(unpacked(images, SHAPE)))

    def encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return with_digits(of_files(image_bytes))

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        files = tf.io.parse_example(inputs, feature)["image/encoded"]
        scores, order = tf.math.top_k(of_files(files), k=len(CLASSES))
        return {"classes": tf.gather(tf.constant(CLASSES), order), "scores": scores}

    return {
        "serving_default": _trace(serving_default, images=tf.TensorSpec([None, *SHAPE], tf.uint8)),
        "predict_images": _trace(predict_images, images=tf.TensorSpec([None, PIXELS], tf.float32)),
        "packed": _trace(packed, images=tf.TensorSpec([None], tf.string)),
        "encoded": _trace(encoded, image_bytes=tf.TensorSpec([None], tf.string)),
        "classify": _trace(classify, inputs=tf.TensorSpec([None], tf.string)),
    }


def _frozen(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """The network as a function, float32 [n, *SHAPE] → float32 [n, classes], its weights constants.

    All signatures call the one function, so the weights are stored once.
    """
    trained = [tf.constant(variable) for variable in network.trainable_variables]
    fixed = [tf.constant(variable) for variable in network.non_trainable_variables]

    def answer(pixels: tf.Tensor) -> tf.Tensor:
        probabilities, _ = network.stateless_call(trained, fixed, pixels, training=False)
        return of_network(probabilities, pixels)

    return tf.function(answer, autograph=False)  # type: ignore[no-any-return]


def _trace(function: Callable[[tf.Tensor], Any], **inputs: tf.TensorSpec) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**inputs)


def _name_classify_method(folder: Path) -> None:
    """Record the Classify API's method name, for servers that check it."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name("classify", "tensorflow/serving/classify", tags="serve")
    updater.save()
