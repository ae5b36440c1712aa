from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tfserving_client import (
    InvalidInput,
    NotFound,
    Overloaded,
    Rejected,
    Signature,
    State,
    TensorSpec,
    Unreachable,
)
from tfserving_client.testing import FakeServer, Received

IMAGES = np.zeros((2, 28, 28), np.uint8)


def test_unscripted_it_answers_with_its_digit_and_newest_version() -> None:
    server = FakeServer(digit=3, versions={1: State.AVAILABLE, 2: State.LOADING})
    with server.client() as digits:
        answer = digits.classify(IMAGES)
        assert (answer.digits.tolist(), answer.version) == ([3, 3], 1)
        assert digits.ready()
        assert [row.state for row in digits.status()] == [State.LOADING, State.AVAILABLE]
        assert digits.metadata().signatures["packed"].inputs["images"].dtype == "DT_STRING"


def test_scripted_answers_come_in_order_and_waits_are_told() -> None:
    server = FakeServer()
    server.will_answer(7, 1)
    server.will_fail(Unreachable)
    server.will_fail(Overloaded, retry_after=3.5)
    server.will_answer(probabilities=np.full((2, 10), 0.1))
    with server.client(api_key="secret") as digits:
        assert digits.classify(IMAGES).digits.tolist() == [7, 1]
        assert (
            digits.classify(IMAGES).probabilities.tolist() == np.full((2, 10), "0.1", "f").tolist()
        )
    assert server.waited[1] == 3.5
    assert [(call.images, call.context.signature) for call in server.received] == [
        (2, "serving_default")
    ] * 4
    assert server.received[0].headers["x-api-key"] == "secret"


def test_failures_carry_the_scripted_words_and_versions_are_found_or_not() -> None:
    server = FakeServer(versions={5: State.AVAILABLE})
    server.will_fail(Rejected, "not today")
    with server.client() as digits:
        with pytest.raises(Rejected, match="not today"):
            digits.classify(IMAGES)
        assert digits.classify(IMAGES, version=5).version == 5
        with pytest.raises(NotFound, match="version 6 of model 'mnist' is not loaded"):
            digits.classify(IMAGES, version=6)
        with pytest.raises(NotFound):
            digits.status(version=6)


def test_coroutines_get_the_same() -> None:
    async def main() -> list[int]:
        server = FakeServer(digit=4)
        server.will_fail(Unreachable)
        async with server.async_client() as digits:
            answers = [answer async for answer in digits.classify_many(IMAGES)]
            assert await digits.ready()
            return [int(answer.digits[0]) for answer in answers]

    assert asyncio.run(main()) == [4, 4]


def test_who_waits_lets_others_work() -> None:
    async def main() -> None:
        server = FakeServer(versions={1: State.LOADING})
        async with server.async_client() as digits:
            waiting = asyncio.create_task(digits.wait_until_ready(timeout=30))
            while not server.waited:
                await asyncio.sleep(0)
            server.versions[1] = State.AVAILABLE
            await waiting

    asyncio.run(main())


PRICE = Signature(
    {"rooms": TensorSpec("DT_INT64", (None,)), "city": TensorSpec("DT_STRING", (None,))},
    {"price": TensorSpec("DT_FLOAT", (None,)), "note": TensorSpec("DT_STRING", (None,))},
)
HOUSES = {"rooms": [3, 4], "city": ["Graz", "Linz"]}
ANSWER = {"price": [250_000, 1.5], "note": ["good", b"bad"]}


def test_any_model_answers_as_scripted_and_tells_what_it_was_asked() -> None:
    server = FakeServer(signatures={"serving_default": PRICE})
    server.will_fail(Unreachable)
    server.will_answer(outputs=ANSWER)
    with server.serving_client(model="price") as serving:
        answer = serving.predict(HOUSES)
        assert serving.metadata().signatures == {"serving_default": PRICE}
    assert answer.outputs["price"].tolist() == [250_000, 1.5]
    assert answer.outputs["price"].dtype == np.float32
    assert answer.outputs["note"].tolist() == [b"good", b"bad"]
    assert [request.context.model for request in server.received] == ["price"] * 2
    assert server.received[1].inputs["rooms"].tolist() == [3, 4]
    assert server.received[1].inputs["city"].tolist() == [b"Graz", b"Linz"]


def test_any_model_responds_to_what_it_is_asked() -> None:
    def respond(received: Received) -> dict[str, object]:
        return {"price": received.inputs["rooms"] * 2, "note": received.inputs["city"]}

    async def main() -> list[list[float]]:
        server = FakeServer(signatures={"serving_default": PRICE}, respond=respond)
        async with server.async_serving_client(model="price") as serving:
            assert list((await serving.predict(HOUSES, outputs="note")).outputs) == ["note"]
            answers = serving.predict_many([HOUSES] * 3, batch_size=4)
            return [answer.outputs["price"].tolist() async for answer in answers]

    assert asyncio.run(main()) == [[6.0, 8.0]] * 3


def test_what_is_scripted_wrongly_or_not_at_all_fails_the_test() -> None:
    server = FakeServer(signatures={"serving_default": PRICE})
    with server.serving_client(model="price") as serving:
        with pytest.raises(AssertionError, match="nothing is scripted for signature 'serving_def"):
            serving.predict(HOUSES)
        server.will_answer(outputs={"price": ["dear"], "note": ["x"]})
        with pytest.raises(AssertionError, match="not fit the model: output 'price' holds text"):
            serving.predict(HOUSES)
        server.will_answer(outputs={"cost": [1.0]})
        with pytest.raises(AssertionError, match="asked for is 'cost', and the model gives 'pri"):
            serving.predict(HOUSES)
        server.will_answer(outputs={"price": [1.0]})
        with pytest.raises(AssertionError, match="are 'price', asked for is 'note'"):
            serving.predict(HOUSES, outputs="note")
        with pytest.raises(InvalidInput, match="'rooms' holds floats"):
            serving.predict({**HOUSES, "rooms": [3.5, 4]})


def test_the_images_that_were_sent_are_told() -> None:
    server = FakeServer()
    images = np.arange(2 * 784).reshape(2, 28, 28) % 256
    with server.client() as digits:
        digits.classify(images)
        digits.classify(images / 255)
    first, second = server.received
    assert np.array_equal(first.inputs["images"], images)
    assert np.allclose(second.inputs["images"] * 255, images.reshape(2, 784))
