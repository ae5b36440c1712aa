"""A server in memory, to test code that calls `classify` or `predict`.

    server = FakeServer()
    server.will_answer(7)
    server.will_fail(Unreachable)
    with server.client() as digits:
        assert digits.classify(image).digits[0] == 7

It serves digits unless it is given the signatures of another model:

    price = Signature({"rooms": TensorSpec("DT_INT64", (None,))},
                      {"price": TensorSpec("DT_FLOAT", (None,))})
    server = FakeServer(signatures={"serving_default": price})
    server.will_answer(outputs={"price": [250_000]})
    with server.serving_client(model="price") as serving:
        assert serving.predict({"rooms": [3]}).output[0] == 250_000
    assert server.received[0].inputs["rooms"].tolist() == [3]

The clients are the real ones, down to the bytes: they check, split, merge, try again and decode as
in production. Only the connection is missing, and waits take a hundredth of their time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfserving_client.call.exchange import Answer, AsyncTransport, Exchange, Transport
from tfserving_client.call.steps import Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.digits.async_client import AsyncDigitClient
from tfserving_client.digits.client import DigitClient
from tfserving_client.errors import CallContext, CallError, InvalidInput, NotFound
from tfserving_client.grpc import messages
from tfserving_client.grpc.wire import STATES, read_tensor, write_tensor
from tfserving_client.results import Signature, State, TensorSpec
from tfserving_client.serving.async_client import AsyncServingClient
from tfserving_client.serving.client import ServingClient
from tfserving_client.tensors import dtypes
from tfserving_client.tensors.conversion import tensor

URL = "grpc://fake"
_HASTE = 0.01  # of a wait that is waited; none at all would leave other coroutines no time
_PICTURES = {
    "probabilities": TensorSpec("DT_FLOAT", (None, 10)),
    "digits": TensorSpec("DT_INT64", (None,)),
}
_TEXTS = TensorSpec("DT_STRING", (None,))
DIGITS: Mapping[str, Signature] = {
    "serving_default": Signature({"images": TensorSpec("DT_UINT8", (None, 28, 28))}, _PICTURES),
    "predict_images": Signature(
        {"images": TensorSpec("DT_FLOAT", (None, 784))},
        {"scores": TensorSpec("DT_FLOAT", (None, 10))},
    ),
    "encoded": Signature({"image_bytes": _TEXTS}, _PICTURES),
    "packed": Signature({"images": _TEXTS}, _PICTURES),
}


@dataclass(frozen=True, slots=True)
class Received:
    """A request for a prediction, as it came.

    Attributes:
        context: the model, version or label, and signature asked for.
        images: how many, or rows of whatever there is; 1 where the input has none.
        headers: API key and what hooks added.
        inputs: the tensors by alias: the images, or what `predict` was given.
    """

    context: CallContext
    images: int
    headers: Mapping[str, str]
    inputs: Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class FakeServer:
    """Answers every image with one digit, unless told otherwise.

    Attributes:
        digit: what is on every image.
        versions: the state of each version; the newest AVAILABLE one answers.
        signatures: the model's.
        respond: makes the outputs of a request for which nothing is scripted.
        received: every request for a prediction, each attempt by itself.
        waited: seconds that clients would have waited between attempts.
    """

    digit: int = 0
    versions: dict[int, State] = field(default_factory=lambda: {1: State.AVAILABLE})
    signatures: Mapping[str, Signature] = field(default_factory=lambda: DIGITS)
    respond: Callable[[Received], Mapping[str, object]] | None = None
    received: list[Received] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    _script: deque[Any] = field(default_factory=deque)

    def will_answer(
        self,
        *digits: int,
        probabilities: ArrayLike | None = None,
        outputs: Mapping[str, object] | None = None,
    ) -> None:
        """Answer the next request with these digits, probabilities (n, 10), or outputs by name."""
        if outputs is None:
            outputs = _classified(np.eye(10)[list(digits)], probabilities)
        self._script.append(outputs)

    def will_fail(
        self,
        kind: type[CallError],
        text: str = "scripted",
        *,
        times: int = 1,
        retry_after: float | None = None,
    ) -> None:
        """Fail the next attempts to classify or predict, after whatever was scripted before."""
        self._script.extend([(kind, text, retry_after)] * times)

    def client(self, **arguments: Any) -> DigitClient:
        """A client of this server; arguments as for `DigitClient`, without the URL."""
        return _FakeClient(self, **arguments)

    def async_client(self, **arguments: Any) -> AsyncDigitClient:
        """The same for coroutines."""
        return _FakeAsyncClient(self, **arguments)

    def serving_client(self, **arguments: Any) -> ServingClient:
        """A client of this server; arguments as for `ServingClient`, without the URL."""
        return _Fake(self, **arguments)

    def async_serving_client(self, **arguments: Any) -> AsyncServingClient:
        """The same for coroutines."""
        return _AsyncFake(self, **arguments)

    def answer(self, exchange: Exchange[Answer], headers: Mapping[str, str]) -> Answer:
        """What the server says to one request."""
        verb = exchange.method.rpartition("/")[2]
        body = {"Predict": self._predict, "GetModelStatus": self._status}.get(verb, self._metadata)
        return exchange.decode(body(exchange, headers).SerializeToString())

    def _predict(self, exchange: Exchange[Any], headers: Mapping[str, str]) -> Any:
        request = messages.PredictRequest.FromString(exchange.body)
        inputs = {alias: read_tensor(request.inputs[alias]) for alias in request.inputs}
        rows = max((len(values) for values in inputs.values() if values.ndim), default=1)
        received = Received(exchange.context, rows, headers, inputs)
        self.received.append(received)
        outputs = self._script.popleft() if self._script else self._unscripted(received)
        if isinstance(outputs, tuple):
            kind, text, retry_after = outputs
            raise kind(exchange.context, text, retry_after)
        response = messages.PredictResponse()
        response.model_spec.version.value = self._version(exchange.context)
        declared = self.signatures[str(exchange.context.signature)].outputs
        for alias in request.output_filter or outputs:
            if alias not in outputs or alias not in declared:
                raise AssertionError(
                    f"the outputs to answer are {_listed(outputs)}, asked for is {alias!r}, "
                    f"and the model gives {_listed(declared)}"
                )
            try:
                array = tensor(f"output {alias!r}", outputs[alias], declared[alias])
            except InvalidInput as error:
                raise AssertionError(
                    f"the outputs to answer do not fit the model: {error}"
                ) from error
            response.outputs[alias].CopyFrom(write_tensor(array))
        return response

    def _unscripted(self, received: Received) -> Mapping[str, object]:
        if self.respond:
            return self.respond(received)
        signature = str(received.context.signature)
        if self.signatures is not DIGITS:
            raise AssertionError(
                f"nothing is scripted for signature {signature!r}; call will_answer(outputs=…) "
                "before, or give the server respond="
            )
        found = _classified(np.eye(10)[[self.digit] * received.images])
        return found if signature != "predict_images" else {"scores": found["probabilities"]}

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
        for name, signature in self.signatures.items():
            definition = signatures.signature_def[name]
            for alias, spec in signature.inputs.items():
                _write_spec(definition.inputs[alias], spec)
            for alias, spec in signature.outputs.items():
                _write_spec(definition.outputs[alias], spec)
            for alias in signature.optional:
                definition.defaults[alias].SetInParent()
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


def _classified(ones: NDArray[Any], shares: ArrayLike | None = None) -> Mapping[str, object]:
    probabilities = np.asarray(ones if shares is None else shares, np.float32)
    return {"probabilities": probabilities, "digits": probabilities.argmax(axis=-1)}


def _listed(outputs: Iterable[str]) -> str:
    return ", ".join(map(repr, outputs)) or "none"


def _write_spec(info: Any, spec: TensorSpec) -> None:
    info.dtype = dtypes.BY_NAME[spec.dtype].number
    info.tensor_shape.unknown_rank = spec.shape is None
    for size in spec.shape or ():
        info.tensor_shape.dim.add(size=-1 if size is None else size)


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


class _Fake(ServingClient):
    def __init__(self, server: FakeServer, **arguments: Any) -> None:
        super().__init__(URL, **arguments)
        self._server = server

    def _connect(self, _: Target) -> Transport:
        return _FakeTransport(self._server)

    def _perform(self, step: Step, home: Any) -> Any:
        return super()._perform(_hastened(step, self._server), home)


class _AsyncFake(AsyncServingClient):
    def __init__(self, server: FakeServer, **arguments: Any) -> None:
        super().__init__(URL, **arguments)
        self._server = server

    def _connect(self, _: Target) -> AsyncTransport:
        return _FakeAsyncTransport(self._server)

    async def _perform(self, step: Step, home: Any) -> Any:
        return await super()._perform(_hastened(step, self._server), home)


class _FakeClient(_Fake, DigitClient):
    pass


class _FakeAsyncClient(_AsyncFake, AsyncDigitClient):
    pass
