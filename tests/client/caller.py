"""A caller's program, for type checkers: `tests/client/test_typing.py` runs them. Never run itself.

It uses every public name of `tfserving_client` as the README's readers do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from tfserving_client import (
    AccessDenied,
    AsyncDigitClient,
    AsyncServingClient,
    Attempt,
    BadResponse,
    CallContext,
    CallError,
    Classification,
    DeadlineExceeded,
    Digit,
    DigitClient,
    DigitsError,
    InvalidInput,
    Label,
    Metadata,
    NotFound,
    Overloaded,
    Policy,
    Prediction,
    Rejected,
    ServerFailed,
    ServingClient,
    ServingError,
    Signature,
    State,
    TensorSpec,
    Tls,
    Unreachable,
    VersionStatus,
    serialize_example,
)
from tfserving_client.testing import FakeServer, Received

URL = "grpc://localhost:8500"
IMAGES: NDArray[np.uint8] = np.zeros((2, 28, 28), np.uint8)


def synchronous() -> None:
    with DigitClient(URL) as digits:
        assert_type(digits, DigitClient)
        assert_type(digits.url, str)
        assert_type(digits.model, str)
        assert_type(digits.timeout, float)
        assert_type(digits.policy, Policy)
        answer = digits.classify(IMAGES)
        assert_type(answer, Classification)
        assert_type(answer[0], Digit)
        assert_type(answer[0].digit, int)
        assert_type(answer[:1], Classification)
        assert_type([one.probability for one in answer], list[float])
        assert_type(answer.digits, NDArray[np.int64])
        assert_type(answer.probabilities, NDArray[np.float32])
        assert_type(answer.version, int | None)
        assert_type(len(answer), int)
        digits.classify("seven.png", version=3)
        digits.classify([Path("seven.png"), b"\x89PNG"], label="stable", timeout=2)
        digits.classify([[0.0] * 784])

        assert_type(digits.status(), tuple[VersionStatus, ...])
        for row in digits.status(version=3, timeout=1.5):
            assert_type(row.version, int)
            assert_type(row.state, State)
            assert_type(row.error, str)
            if row.state is State.AVAILABLE:
                print(row.state.lower())
        metadata = digits.metadata(label="stable")
        assert_type(metadata, Metadata)
        assert_type(metadata.signatures, Mapping[str, Signature])
        inputs = metadata.signatures["serving_default"].inputs
        assert_type(inputs["images"], TensorSpec)
        assert_type(inputs["images"].dtype, str)
        assert_type(inputs["images"].shape, tuple[int | None, ...] | None)
        assert_type(digits.ready(version=3), bool)
        digits.wait_until_ready(timeout=120)


def many(digits: DigitClient, lenient: bool) -> None:
    folder = Path("scans")
    answers = digits.classify_many(folder.glob("*.png"), batch_size=64, in_flight=2)
    assert_type(answers, Iterator[Classification])
    same = digits.classify_many([IMAGES], version=1, return_exceptions=False)
    assert_type(same, Iterator[Classification])
    each = digits.classify_many([IMAGES], return_exceptions=True, progress=print)
    assert_type(each, Iterator[Classification | DigitsError])
    for item in each:
        if isinstance(item, DigitsError):
            print(item)
        else:
            assert_type(item, Classification)
    either = digits.classify_many([IMAGES], return_exceptions=lenient)
    assert_type(either, Iterator[Classification | DigitsError])


async def asynchronous() -> None:
    async with AsyncDigitClient(URL, coalesce=True) as digits:
        assert_type(digits, AsyncDigitClient)
        assert_type(await digits.classify(IMAGES, timeout=1), Classification)
        assert_type(await digits.status(), tuple[VersionStatus, ...])
        assert_type(await digits.metadata(version=3), Metadata)
        assert_type(await digits.ready(), bool)
        await digits.wait_until_ready(version=3, timeout=5)

        async def frames() -> AsyncIterator[NDArray[np.uint8]]:
            yield IMAGES

        answers = digits.classify_many(frames())
        assert_type(answers, AsyncIterator[Classification])
        async for answer in answers:
            assert_type(answer.digits, NDArray[np.int64])
        each = digits.classify_many(["a.png", "b.png"], return_exceptions=True)
        assert_type(each, AsyncIterator[Classification | DigitsError])
    plain = AsyncDigitClient(URL)
    await plain.close()


@contextmanager
def traced(attempt: Attempt) -> Generator[None, None, None]:
    assert_type(attempt.context, CallContext)
    assert_type(attempt.method, str)
    assert_type(attempt.number, int)
    attempt.headers["traceparent"] = "00-…"
    yield


def counted(attempt: Attempt) -> AbstractContextManager[object]:
    return nullcontext(attempt.number)


def settings() -> list[DigitClient]:
    patient = Policy(timeout=30, attempts=6, attempt_timeout=5, retry_share=0.1, hedge_after=None)
    eager = Policy(first_wait=0.01, longest_wait=1, hedge_after=0.05)
    assert_type(patient.hedge_after, float | None)
    tls = Tls(ca="ca.pem", certificate=Path("me.pem"), key=Path("me.key"))
    client = DigitClient(
        "https://digits.example/gateway",
        model="mnist",
        timeout=5,
        policy=patient,
        coalesce=0.002,
        api_key="secret",
        headers={"x-tenant": "a"},
        tls=tls,
        observe=traced,
    )
    client.close()
    return [client, DigitClient("dns:///digits", policy=eager, tls=Tls(), observe=counted)]


def errors(digits: DigitClient) -> str:
    try:
        digits.classify(IMAGES)
    except InvalidInput as error:
        return str(error)
    except (Unreachable, DeadlineExceeded, Overloaded) as error:
        assert_type(error.retry_after, float | None)
        return f"later, after {error.attempts} attempts"
    except NotFound as error:
        assert_type(error.context, CallContext)
        assert_type(error.context.version, int | None)
        return f"{error.context.model} at {error.context.endpoint}"
    except (AccessDenied, Rejected) as error:
        assert_type(error.server_text, str)
        return error.advice
    except (ServerFailed, BadResponse) as error:
        return "broken" + ("; again" if error.transient else "")
    except CallError as error:
        return error.server_text
    except DigitsError:
        return "other"
    return ""


def errors_are_the_language_s_own(digits: DigitClient) -> None:
    try:
        digits.classify(IMAGES)
    except (ValueError, ConnectionError, TimeoutError, LookupError, PermissionError):
        raise
    invalid: ValueError = InvalidInput("no image")
    gone: ConnectionError = Unreachable(CallContext(URL, "mnist"), "refused")
    late: TimeoutError = DeadlineExceeded(CallContext(URL, "mnist", version=2), "late", 1.0)
    print(invalid, gone, late)


def any_model() -> None:
    try:
        with ServingClient(URL, model="price", timeout=5) as serving:
            assert_type(serving, ServingClient)
            assert_type(serving.metadata(version=2), Metadata)
            assert_type(serving.status(), tuple[VersionStatus, ...])
            assert_type(serving.ready(), bool)
            serving.wait_until_ready(timeout=30)
    except ServingError as error:
        print(error)
    base: ServingClient = DigitClient(URL)
    base.close()


def predictions(serving: ServingClient, lenient: bool) -> None:
    answer = serving.predict({"rooms": [3, 4], "city": ["Graz", b"Linz"], "at": np.zeros((2, 3))})
    assert_type(answer, Prediction)
    assert_type(answer.version, int | None)
    columns = {"rooms": [3, 4], "city": ["Graz", "Linz"]}
    price = serving.predict(columns, signature="fast", outputs=["price"], label="stable", timeout=1)
    print(price.output.tolist(), price.outputs["price"].shape)
    serving.predict([[0.5, 1.5]], outputs="price", version=3)
    serving.predict(np.zeros((2, 3), np.float32), raw=True)
    answers = serving.predict_many([columns, columns], batch_size=64, in_flight=2)
    assert_type(answers, Iterator[Prediction])
    each = serving.predict_many(([n] for n in range(9)), return_exceptions=True, progress=print)
    assert_type(each, Iterator[Prediction | ServingError])
    either = serving.predict_many([columns], return_exceptions=lenient)
    assert_type(either, Iterator[Prediction | ServingError])
    people: list[dict[str, object]] = [{"age": 4, "weight": [1.5], "name": "ann"}]
    labels = serving.classify_examples(people, signature="classify")
    assert_type(labels, list[list[Label]])
    assert_type(labels[0][0].label, str)
    assert_type(labels[0][0].score, float)
    assert_type(serving.regress_examples(people, version=3), NDArray[np.float32])
    assert_type(serialize_example({"age": 4}), bytes)


async def any_model_awaited() -> None:
    async with AsyncServingClient(URL, model="price") as serving:
        assert_type(serving, AsyncServingClient)
        assert_type(await serving.metadata(label="stable"), Metadata)
        assert_type(await serving.ready(version=2), bool)
        assert_type(await serving.predict({"rooms": [3]}), Prediction)
        people = [{"age": 4, "name": "ann"}]
        assert_type(await serving.classify_examples(people), list[list[Label]])
        assert_type(await serving.regress_examples(people), NDArray[np.float32])

        async def rows() -> AsyncIterator[dict[str, list[int]]]:
            yield {"rooms": [3]}

        answers = serving.predict_many(rows())
        assert_type(answers, AsyncIterator[Prediction])
        each = serving.predict_many([[1], [2]], return_exceptions=True)
        assert_type(each, AsyncIterator[Prediction | ServingError])
    AsyncServingClient(URL, model="price", coalesce=True)


async def fakes() -> None:
    server = FakeServer(digit=3, versions={1: State.AVAILABLE, 2: State.LOADING})
    server.will_answer(7, 1)
    server.will_answer(probabilities=[[0.1] * 10])
    server.will_answer(probabilities=np.full((1, 10), 0.1))
    server.will_fail(Unreachable, "gone", times=2, retry_after=0.5)
    with server.client(policy=Policy(attempts=2)) as digits:
        assert_type(digits, DigitClient)
        assert_type(digits.classify(IMAGES), Classification)
    async with server.async_client() as awaited:
        assert_type(awaited, AsyncDigitClient)
    assert_type(server.received[0].context, CallContext)
    assert_type(server.received[0].images, int)
    assert_type(server.received[0].headers, Mapping[str, str])
    assert_type(server.waited, list[float])
    price = Signature(
        {"rooms": TensorSpec("DT_INT64", (None,))}, {"price": TensorSpec("DT_FLOAT", (None,))}
    )

    def respond(received: Received) -> dict[str, NDArray[np.float64]]:
        return {"price": received.inputs["rooms"] * 1000.0}

    houses = FakeServer(signatures={"serving_default": price}, respond=respond)
    houses.will_answer(outputs={"price": [250_000]})
    with houses.serving_client(model="price") as serving:
        assert_type(serving, ServingClient)
    async with houses.async_serving_client(model="price", timeout=1) as awaited_serving:
        assert_type(awaited_serving, AsyncServingClient)
