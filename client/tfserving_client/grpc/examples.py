"""tf.Examples as bytes, for models whose inputs they are."""

from __future__ import annotations

from collections.abc import Mapping

from tfserving_client.grpc.wire import write_example
from tfserving_client.tensors.features import checked_features


def serialize_example(features: Mapping[str, object]) -> bytes:
    """A tf.Example for an input that takes them serialized, over either protocol.

    Args:
        features: name → number, text, bytes, or a flat list of one kind. Integers are int64
            features, so write 1.0 for a float.

    Raises:
        InvalidInput: a value that no feature can hold.
    """
    written: bytes = write_example(checked_features(features)).SerializeToString()
    return written
