"""A server in memory, for the tests of whoever calls `classify`.

    server = FakeServer()
    server.will_answer(7)
    server.will_fail(Unreachable)
    with server.client() as digits:
        assert digits.classify(image).digits[0] == 7

The clients are the real ones, down to the bytes: they check, split, merge, try again and decode as
in production. Only the connection is missing, and waits take a hundredth of their time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfserving_client.call.exchange import Answer, AsyncTransport, Exchange, Transport
from tfserving_client.call.steps import Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.digits.async_client import AsyncDigitClient
from tfserving_client.digits.client import DigitClient
from tfserving_client.errors import CallContext, CallError, NotFound
from tfserving_client.grpc import messages
from tfserving_client.grpc.wire import FLOAT, INT64, STATES, STRING, UINT8
from tfserving_client.results import State

URL = "grpc://fake"
_HASTE = 0.01  # of a wait that is waited; none at all would leave other coroutines no time
_PICTURES = {"probabilities": (FLOAT, (-1, 10)), "digits": (INT64, (-1,))}
# signature → inputs, outputs: alias → dtype, shape
_SIGNATURES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "serving_default": ({"images": (UINT8, (-1, 28, 28))}, _PICTURES),
    "predict_images": ({"images": (FLOAT, (-1, 784))}, {"scores": (FLOAT, (-1, 10))}),
    "encoded": ({"image_bytes": (STRING, (-1,))}, _PICTURES),
    "packed": ({"images": (STRING, (-1,))}, _PICTURES),
}


@dataclass(frozen=True, slots=True)
class Received:
    """A request for a classification, as it came.

    Attributes:
        context: the model, version or label, and signature asked for.
        images: how many.
        headers: API key and what hooks added.
    """

    context: CallContext
    images: int
    headers: Mapping[str, str]


@dataclass(slots=True)
class FakeServer:
    """Answers every image with one digit, unless scripted otherwise.

    Attributes:
        digit: what is on every image.
        versions: the state of each version; the newest AVAILABLE one answers.
        received: every request for a classification, each attempt by itself.
        waited: seconds that clients would have waited between attempts.
    """

    digit: int = 0
    versions: dict[int, State] = field(default_factory=lambda: {1: State.AVAILABLE})
    received: list[Received] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    _script: deque[Any] = field(default_factory=deque)

    def will_answer(self, *digits: int, probabilities: ArrayLike | None = None) -> None:
        """Answer the next request with these digits, or these probabilities (n, 10)."""
        if probabilities is None:
            probabilities = np.eye(10)[list(digits)]
        self._script.append(np.asarray(probabilities, np.float32))

    def will_fail(
        self,
        kind: type[CallError],
        text: str = "scripted",
        *,
        times: int = 1,
        retry_after: float | None = None,
    ) -> None:
        """Fail the next attempts to classify, after whatever was scripted before."""
        self._script.extend([(kind, text, retry_after)] * times)

    def client(self, **arguments: Any) -> DigitClient:
        """A client of this server; arguments as for `DigitClient`, without the URL."""
        return _FakeClient(self, **arguments)

    def async_client(self, **arguments: Any) -> AsyncDigitClient:
        """The same for coroutines."""
        return _FakeAsyncClient(self, **arguments)

    def answer(self, exchange: Exchange[Answer], headers: Mapping[str, str]) -> Answer:
        """What the server says to one request."""
        verb = exchange.method.rpartition("/")[2]
        body = {"Predict": self._predict, "GetModelStatus": self._status}.get(verb, self._metadata)
        return exchange.decode(body(exchange, headers).SerializeToString())

    def _predict(self, exchange: Exchange[Any], headers: Mapping[str, str]) -> Any:
        request = messages.PredictRequest.FromString(exchange.body)
        (tensor,) = request.inputs.values()
        images = tensor.tensor_shape.dim[0].size
        self.received.append(Received(exchange.context, images, headers))
        scripted = self._script.popleft() if self._script else np.eye(10)[[self.digit] * images]
        if isinstance(scripted, tuple):
            kind, text, retry_after = scripted
            raise kind(exchange.context, text, retry_after)
        response = messages.PredictResponse()
        response.model_spec.version.value = self._version(exchange.context)
        probabilities = np.asarray(scripted, "<f4")
        output = response.outputs["probabilities"]
        output.dtype, output.tensor_content = FLOAT, probabilities.tobytes()
        for size in probabilities.shape:
            output.tensor_shape.dim.add(size=size)
        return response

    def _status(self, exchange: Exchange[Any], _: Mapping[str, str]) -> Any:
        asked = exchange.context.version
        numbers = {state: number for number, state in STATES.items()}
        response = messages.StatusResponse()
        for version, state in sorted(self.versions.items(), reverse=True):
            if asked in {None, version}:
                response.model_version_status.add(version=version, state=numbers[state])
        if not response.model_version_status:
            raise NotFound(exchange.context, f"Could not find version {asked} of model")
        return response

    def _metadata(self, exchange: Exchange[Any], _: Mapping[str, str]) -> Any:
        signatures = messages.SignatureDefMap()
        for name, (inputs, outputs) in _SIGNATURES.items():
            definition = signatures.signature_def[name]
            for infos, specs in ((definition.inputs, inputs), (definition.outputs, outputs)):
                for alias, (dtype, shape) in specs.items():
                    infos[alias].dtype = dtype
                    for size in shape:
                        infos[alias].tensor_shape.dim.add(size=size)
        response = messages.MetadataResponse()
        response.model_spec.name = exchange.context.model
        response.model_spec.version.value = self._version(exchange.context)
        response.metadata["signature_def"].value = signatures.SerializeToString()
        return response

    def _version(self, asked: CallContext) -> int:
        available = [v for v, state in self.versions.items() if state is State.AVAILABLE]
        if not available or asked.version not in {None, *available}:
            which = f"Latest({asked.model})"
            if asked.version is not None:
                which = f"Specific({asked.model}, {asked.version})"
            raise NotFound(asked, f"Servable not found for request: {which}")
        return asked.version or max(available)


def _hastened(step: Step, server: FakeServer) -> Step:
    if not isinstance(step, Wait):
        return step
    server.waited.append(step.seconds)
    return Wait(step.seconds * _HASTE)


class _FakeTransport:
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def send(self, exchange: Exchange[Answer], _: float, headers: Mapping[str, str]) -> Answer:
        return self._server.answer(exchange, headers)

    def close(self) -> None:
        pass


class _FakeAsyncTransport(_FakeTransport):
    async def send(  # type: ignore[override]
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        return super().send(exchange, timeout, headers)

    async def close(self) -> None:  # type: ignore[override]
        pass


class _FakeClient(DigitClient):
    def __init__(self, server: FakeServer, **arguments: Any) -> None:
        super().__init__(URL, **arguments)
        self._server = server

    def _connect(self, _: Target) -> Transport:
        return _FakeTransport(self._server)

    def _perform(self, step: Step, home: Any) -> Any:
        return super()._perform(_hastened(step, self._server), home)


class _FakeAsyncClient(AsyncDigitClient):
    def __init__(self, server: FakeServer, **arguments: Any) -> None:
        super().__init__(URL, **arguments)
        self._server = server

    def _connect(self, _: Target) -> AsyncTransport:
        return _FakeAsyncTransport(self._server)

    async def _perform(self, step: Step, home: Any) -> Any:
        return await super()._perform(_hastened(step, self._server), home)
