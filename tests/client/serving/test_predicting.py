"""When a signature is asked for, and what a call does when the model has changed meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import ONCE, ScriptedHttp, Serving
from tests.client.memory import Clock
from tfserving_client import (
    BadResponse,
    InvalidInput,
    NotFound,
    Prediction,
    Rejected,
    ServingClient,
    Signature,
    State,
    TensorSpec,
    Unreachable,
)
from tfserving_client.serving.client import ServingClient as Client
from tfserving_client.testing import FakeServer, Received

INTEGERS = Signature({"x": TensorSpec("DT_INT64", (None,))}, {"y": TensorSpec("DT_INT64", (None,))})
FLOATS = Signature({"x": TensorSpec("DT_FLOAT", (None,))}, {"y": TensorSpec("DT_FLOAT", (None,))})


class Counting(FakeServer):
    """Doubles; counts the questions for signatures."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            signatures={"serving_default": INTEGERS},
            respond=lambda received: {"y": 2 * received.inputs["x"]},
            **arguments,
        )
        self.looks = 0

    def _metadata(self, exchange: Any, headers: Mapping[str, str]) -> Any:
        self.looks += 1
        return super()._metadata(exchange, headers)


@pytest.fixture
def server() -> Counting:
    return Counting()


def _ask(client: Client, *values: float, **options: Any) -> list[Any]:
    answered: list[Any] = client.predict([*values], **options).output.tolist()
    return answered


def test_a_signature_is_asked_for_once_per_version_that_is_named(server: Counting) -> None:
    server.versions = {1: State.AVAILABLE, 2: State.AVAILABLE}
    with server.serving_client(model="m") as client:
        assert [_ask(client, n) for n in range(5)] == [[0], [2], [4], [6], [8]]
        assert server.looks == 1
        _ask(client, 1, version=1)
        _ask(client, 1, version=1)
        _ask(client, 1, version=2)
        assert server.looks == 3


def test_raw_asks_for_nothing(server: Counting) -> None:
    with server.serving_client(model="m") as client:
        assert client.predict({"x": np.array([4])}, raw=True).outputs["y"].tolist() == [8]
        (answer,) = client.predict_many([{"x": np.array([4])}], raw=True)
        assert answer.version == 1
    assert server.looks == 0


def test_a_new_version_is_asked_for_its_signature(server: Counting) -> None:
    with server.serving_client(model="m") as client:
        _ask(client, 1)
        server.versions[2] = State.AVAILABLE
        _ask(client, 1)  # its answer tells
        _ask(client, 1)
        _ask(client, 1)
    assert server.looks == 2


def test_what_the_known_signature_refuses_is_looked_at_again(server: Counting) -> None:
    with server.serving_client(model="m") as client:
        _ask(client, 1)
        with pytest.raises(InvalidInput, match="holds floats"):
            _ask(client, 1.5)
        assert server.looks == 2
        server.signatures = {"serving_default": FLOATS}
        assert _ask(client, 1.5) == [3.0]
        server.signatures = {"other": FLOATS}
        assert _ask(client, 1.5, signature="other") == [3.0]
    assert len(server.received) == 3


def test_what_the_server_rejects_is_looked_at_again(server: Counting) -> None:
    with server.serving_client(model="m") as client:
        _ask(client, 1)
        server.signatures = {"serving_default": FLOATS}
        server.will_fail(Rejected, "Expects arg[0] to be float but int64 is provided")
        assert _ask(client, 1) == [2.0]
        assert server.received[-1].inputs["x"].dtype == np.float32
        server.will_fail(Rejected, "no such row")
        with pytest.raises(Rejected, match="no such row"):  # nothing has changed
            _ask(client, 1)
    assert server.looks == 3


def test_a_signature_that_does_not_come_is_the_calls_error(server: Counting) -> None:
    server.versions = {}
    with server.serving_client(model="m") as client, pytest.raises(NotFound):
        _ask(client, 1)
    assert server.received == []


def test_a_signature_is_waited_for_while_a_version_loads() -> None:
    class Loading(Counting):
        def _metadata(self, exchange: Any, headers: Mapping[str, str]) -> Any:
            if self.looks == 2:
                self.versions = {1: State.AVAILABLE}
            return super()._metadata(exchange, headers)

    server = Loading(versions={1: State.LOADING})
    with server.serving_client(model="m") as client:
        assert _ask(client, 1) == [2]
    assert server.looks == 3


def test_attempts_are_repeated_as_for_digits(server: Counting) -> None:
    server.will_fail(Unreachable, times=2)
    with server.serving_client(model="m") as client:
        assert _ask(client, 1) == [2]
    assert len(server.waited) == 2


def test_the_digits_clients_predict_too() -> None:
    with FakeServer(digit=4).client() as digits:
        answer = digits.predict(np.zeros((2, 28, 28)).astype(int))
    assert answer.outputs["digits"].tolist() == [4, 4]


def test_many_follow_a_model_that_changes(server: Counting) -> None:
    def respond(received: Received) -> Any:
        if len(server.received) == 2:
            server.signatures = {"serving_default": FLOATS}
            server.versions[2] = State.AVAILABLE
        return {"y": 2 * received.inputs["x"]}

    server.respond = respond
    with server.serving_client(model="m") as client:
        answers = client.predict_many(([n] for n in range(6)), batch_size=1, in_flight=1)
        assert [answer.output.tolist() for answer in answers] == [[2 * n] for n in range(6)]


@pytest.mark.parametrize("coroutines", [False, True])
def test_a_signature_that_cannot_be_had_fails_items_as_a_call_would(
    server: Counting, coroutines: bool
) -> None:
    """A request's worth of them, and then it is asked for again."""
    server.versions = {1: State.END}

    def items() -> Iterator[list[int]]:
        for n in range(6):
            if n == 4:
                server.versions = {1: State.AVAILABLE}
            yield [n]

    options: Any = {"batch_size": 2, "return_exceptions": True}

    async def awaited() -> list[Any]:
        async with server.async_serving_client(model="m", policy=ONCE) as client:
            return [answer async for answer in client.predict_many(items(), **options)]

    if coroutines:
        answers = asyncio.run(awaited())
    else:
        with server.serving_client(model="m", policy=ONCE) as client:
            answers = list(client.predict_many(items(), **options))
    assert [type(answer) for answer in answers] == [NotFound] * 4 + [Prediction] * 2
    assert len(set(map(id, answers))) == 6
    assert server.looks == 3


def test_the_first_item_tells_that_the_signature_cannot_be_had(server: Counting) -> None:
    server.versions = {1: State.END}
    with server.serving_client(model="m", policy=ONCE) as client:
        answers = client.predict_many([[1]])
        with pytest.raises(NotFound, match="no version of model 'm' is loaded"):
            next(answers)


# --- over REST no answer tells its version ---


def _rest(server: ScriptedHttp, dtype: str) -> None:
    spec = {"dtype": dtype, "tensor_shape": {"dim": [{"size": "-1"}], "unknown_rank": False}}
    definition = {"inputs": {"x": spec}, "outputs": {"y": spec}}
    metadata = {
        "model_spec": {"name": "mnist", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": definition}}},
    }

    def behave(asked: str, body: bytes) -> tuple[int, bytes]:
        if asked.endswith("/metadata"):
            return 200, json.dumps(metadata).encode()
        return 200, b'{"outputs": %b}' % json.dumps(json.loads(body)["inputs"]).encode()

    server.behaviour = behave


def test_over_rest_a_signature_is_forgotten_after_a_minute(
    http_server: ScriptedHttp, clock: Clock
) -> None:
    with ServingClient(http_server.url, model="mnist") as client:
        _rest(http_server, "DT_INT64")
        assert client.predict([3]).output.dtype == np.int64
        _rest(http_server, "DT_DOUBLE")
        clock.now += 59
        assert client.predict([3]).output.dtype == np.int64
        clock.now += 2
        assert client.predict([3]).output.dtype == np.float64
    asked = [path for _, path, _ in http_server.calls if path.endswith("metadata")]
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer", [b'{"outputs": ["text"]}', b'{"outputs": [[1], [2, 3]]}', b'{"outputs": {"z": [1]}}']
)
def test_outputs_that_are_not_the_signatures_are_bad_responses(
    http_server: ScriptedHttp, serving: Serving, answer: bytes
) -> None:
    _rest(http_server, "DT_FLOAT")
    known = http_server.behaviour
    http_server.behaviour = lambda asked, body: (
        known(asked, body) if asked.endswith("metadata") else (200, answer)
    )
    with serving(http_server.url) as client, pytest.raises(BadResponse):
        client.predict([1])


@pytest.mark.parametrize(
    ("dtype", "inputs", "words"),
    [
        ("DT_HALF", [1], "input 'x' is DT_HALF, which REST cannot carry; ask over gRPC"),
        ("DT_FLOAT", [1e-40], "holds numbers that are not 0 and nearer to it than 1.18e-38"),
    ],
)
def test_what_rest_cannot_carry_is_refused_before_sending(
    http_server: ScriptedHttp, dtype: str, inputs: list[float], words: str
) -> None:
    _rest(http_server, dtype)
    with ServingClient(http_server.url, model="mnist") as client:
        with pytest.raises(InvalidInput, match=words):
            client.predict(inputs)
    assert all(path.endswith("metadata") for _, path, _ in http_server.calls)


def test_numbers_that_json_has_no_word_for(http_server: ScriptedHttp) -> None:
    _rest(http_server, "DT_FLOAT")
    with ServingClient(http_server.url, model="mnist") as client:
        given = np.array([np.nan, np.inf, -np.inf, -0.0, 0.1], np.float32)
        found = client.predict(given).output
    assert b"[NaN,Infinity,-Infinity,-0.0,0.10000000149011612]" in http_server.calls[-1][2]
    assert np.array_equal(found, given, equal_nan=True)
    assert np.signbit(found[3])
