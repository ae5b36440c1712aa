"""Running with tensors that have more dimensions than numpy holds.

They go in and out as serialized messages, through operations added to the graph; a
callable's connections put what was parsed where an ordinary run would feed an array.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import dtypes
from tensorflow.python.ops import gen_array_ops, gen_parsing_ops

from deploy.local import tensors
from deploy.local.tensors import Array


class DeepRuns:
    """Runs of one session whose feeds are not all arrays."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._parsers: dict[str, tuple[Any, Any]] = {}
        self._writers: dict[str, Any] = {}

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int
    ) -> list[Array]:
        """As `Servable.run` does, without targets."""
        options = config_pb2.CallableOptions()
        options.run_options.timeout_in_ms = timeout_ms
        # Adding operations to a graph is for one thread at a time.
        with self._lock, self._session.graph.as_default():
            for name in feeds:
                message, parsed = self._parser(name)
                options.feed.append(message.name)
                options.tensor_connection.add(from_tensor=parsed.name, to_tensor=name)
            options.fetch.extend(self._writer(name).name for name in fetches)
            call = self._session._make_callable_from_options(options)
        return [_array(message) for message in call(*map(_message, feeds.values()))]

    def _parser(self, name: str) -> tuple[Any, Any]:
        if name not in self._parsers:
            message = gen_array_ops.placeholder(dtypes.string, [])
            dtype = self._session.graph.get_tensor_by_name(name).dtype
            self._parsers[name] = message, gen_parsing_ops.parse_tensor(message, dtype)
        return self._parsers[name]

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = gen_parsing_ops.serialize_tensor(
                self._session.graph.get_tensor_by_name(name)
            )
        return self._writers[name]


def _message(array: Array) -> bytes:
    proto = tensor_pb2.TensorProto()
    tensors.encode(array, proto, as_content=True)
    serialized: bytes = proto.SerializeToString()
    return serialized


def _array(message: bytes) -> Array:
    return tensors.decode(tensor_pb2.TensorProto.FromString(message), "")
