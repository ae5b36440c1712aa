"""tf.Examples of a message, as a session takes them: each serialized, after what they share."""

from tensorflow_serving.apis import input_pb2


def from_message(message: input_pb2.Input) -> list[bytes]:
    """The Examples of a gRPC request; none if there is no input."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return []
    given = getattr(message, kind)
    context = b"" if kind == "example_list" else given.context.SerializeToString()
    return [context + example.SerializeToString() for example in given.examples]
