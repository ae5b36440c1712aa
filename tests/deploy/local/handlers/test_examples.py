from __future__ import annotations

from tensorflow_serving.apis import input_pb2

from deploy.local.handlers import examples


def test_an_input_of_neither_kind_is_empty() -> None:
    assert examples.from_message(input_pb2.Input()) == []
