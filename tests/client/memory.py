"""Clients without I/O: transports in memory, a script of what comes of each step, a clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfserving_client import (
    AsyncDigitClient,
    CallError,
    DigitClient,
    Prediction,
    State,
    VersionStatus,
)
from tfserving_client.call.exchange import Answer, AsyncTransport, Exchange, Transport
from tfserving_client.call.steps import Hedge, Meet, Send, Step, Wait
from tfserving_client.call.target import Target
from tfserving_client.grpc import messages


class Clock:
    """Stands in for the module `time` where only decisions are made."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def picture(number: int) -> NDArray[np.uint8]:
    """An image that carries a number below 1024, which its answer repeats."""
    image = np.zeros((28, 28), np.uint8)
    image[0, :2] = divmod(number, 256)
    return image


def numbers(probabilities: NDArray[Any]) -> list[int]:
    """The reverse, from an answer: bit by bit in the ten probabilities."""
    found: list[int] = (probabilities.astype(int) @ 2 ** np.arange(10)).tolist()
    return found


def asked(exchange: Exchange[Any]) -> list[int]:
    """The numbers of the images in a request (of gRPC, uint8)."""
    request = messages.PredictRequest.FromString(exchange.body)
    pixels = np.frombuffer(request.inputs["images"].tensor_content, np.uint8).reshape(-1, 784)
    return [256 * int(row[0]) + int(row[1]) for row in pixels]


def predicted(numbers: Sequence[int], version: int = 7) -> Prediction:
    bits = (np.asarray(numbers)[:, None] >> np.arange(10)) & 1
    return Prediction(
        {"probabilities": bits.astype(np.float32), "digits": np.asarray(numbers) % 10}, version
    )


def answer(exchange: Exchange[Any]) -> Any:
    """What a server would say."""
    return predicted(asked(exchange), exchange.context.version or 7)


Reply = Callable[[Send], Any]


def fails(kind: type[CallError], text: str = "no", *, retry_after: float | None = None) -> Reply:
    def reply(step: Send) -> Any:
        raise kind(step.exchange.context, text, retry_after)

    return reply


def answers(step: Send) -> Any:
    return answer(step.exchange)


def says(*states: State, error: str = "") -> Reply:
    return lambda _: tuple(VersionStatus(i, state, error) for i, state in enumerate(states, 1))


class Fake(DigitClient):
    """Does as the script says, a reply for each `Send`; the last reply goes on for ever.

    A `Hedge` is its first copy. Waits, and `takes` for each attempt, pass on the clock alone.
    """

    def __init__(
        self,
        clock: Clock,
        *script: Reply,
        url: str = "grpc://a",
        takes: float = 0,
        **arguments: Any,
    ) -> None:
        super().__init__(url, **arguments)
        self.clock, self.script, self.takes = clock, list(script), takes
        self.steps: list[Step] = []

    @property
    def sent(self) -> list[Send]:
        return [step for step in self.steps if isinstance(step, Send)]

    @property
    def waits(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Wait)]

    def _perform(self, step: Step, home: Any) -> Any:
        if isinstance(step, Meet):
            return super()._perform(step, home)
        if isinstance(step, Hedge):
            self.steps.append(step)
            step = step.first
        self.steps.append(step)
        if isinstance(step, Wait):
            self.clock.now += step.seconds
            return None
        assert isinstance(step, Send)
        self.clock.now += min(self.takes, step.timeout)
        return (self.script.pop(0) if len(self.script) > 1 else self.script[0])(step)

    def _connect(self, _: Target) -> Transport:
        return Memory(answer)


Behaviour = Callable[[Exchange[Any]], Any]


class Memory:
    """A `Transport` that remembers what it was asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.sent: list[Exchange[Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.is_closed = False
        self._lock = threading.Lock()

    def send(
        self, exchange: Exchange[Answer], timeout: float, headers: Mapping[str, str]
    ) -> Answer:
        assert timeout > 0
        with self._lock:
            self.sent.append(exchange)
            self.headers.append(headers)
        found: Answer = self.behaviour(exchange)
        return found

    def close(self) -> None:
        self.is_closed = True


class AsyncMemory:
    """The same for `AsyncTransport`; the behaviour is a coroutine."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.sent: list[Exchange[Any]] = []

    async def send(
        self, exchange: Exchange[Answer], timeout: float, _: Mapping[str, str]
    ) -> Answer:
        assert timeout > 0
        self.sent.append(exchange)
        found: Answer = await self.behaviour(exchange)
        return found

    async def close(self) -> None:
        pass


class InMemory(DigitClient):
    """A client of threads whose servers are transports in memory, one for each target."""

    def __init__(self, *behaviours: Behaviour, url: str = "grpc://a", **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self.transports = [Memory(behaviour) for behaviour in behaviours or (answer,)]

    def _connect(self, target: Target) -> Transport:
        return self.transports[self._targets.index(target)]


class AsyncInMemory(AsyncDigitClient):
    """The same with coroutines."""

    def __init__(self, *behaviours: Behaviour, url: str = "grpc://a", **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self.transports = [AsyncMemory(behaviour) for behaviour in behaviours]

    def _connect(self, target: Target) -> AsyncTransport:
        return self.transports[self._targets.index(target)]


IMAGE = picture(5)


def fails_to(digits: Fake, kind: type[CallError], **arguments: Any) -> CallError:
    """The error that classifying ends in."""
    with pytest.raises(kind) as failure:
        digits.classify(IMAGE, **arguments)
    return failure.value
