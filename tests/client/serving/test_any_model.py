"""`predict` of models that are no digits', on a real server, over both protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.client.conftest import Serving
from tests.client.models import Served, echo, example, house, served
from tfserving_client import (
    AsyncServingClient,
    Attempt,
    InvalidInput,
    NotFound,
    Prediction,
    Rejected,
    ServingClient,
    serialize_example,
)
from tfserving_client.tensors import dtypes

HOUSES = {
    "rooms": [3, 4],
    "area": [70.5, 120],
    "city": ["Graz", "Linz"],
    "place": [[1, 2, 3], [0.5, 0, 0]],
}
PRICES = [3711.0, 5200.5]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    with served(folder, house=house, echo=echo, example=example) as found:
        yield found


@pytest.fixture
def houses(models: Served, scheme: str, serving: Serving) -> Iterator[Any]:
    with serving(models.url(scheme), model="house") as client:
        yield client


def test_mixed_dtypes(houses: Any, scheme: str) -> None:
    answer = houses.predict(HOUSES)
    assert isinstance(answer, Prediction)
    assert answer.outputs["price"].dtype == np.float32
    assert answer.outputs["price"].tolist() == PRICES
    assert answer.outputs["label"].tolist() == [b"Graz:3", b"Linz:4"]
    assert answer.version == (1 if scheme == "grpc" else None)
    assert houses.predict(HOUSES, version=1).version == 1
    with pytest.raises(ValueError, match="'label', 'price'"):
        _ = answer.output


def test_only_the_wanted_outputs(houses: Any) -> None:
    assert list(houses.predict(HOUSES, outputs=["label"]).outputs) == ["label"]
    assert houses.predict(HOUSES, outputs="price").output.tolist() == PRICES
    with pytest.raises(InvalidInput, match="no output 'prize'; it gives label, price"):
        houses.predict(HOUSES, outputs=["prize"])


def test_one_input_needs_no_name_and_an_only_output_has_a_shorthand(houses: Any) -> None:
    answer = houses.predict([1, 2.5], signature="total")
    assert (answer.output.shape, float(answer.output)) == ((), 3.5)
    assert list(answer.outputs) == ["total"]


def test_a_default_serves_over_grpc_alone(houses: Any, scheme: str) -> None:
    inputs: dict[str, Any] = {"area": [1.0, 2.0]}
    if scheme == "grpc":
        assert houses.predict(inputs, signature="scaled").output.tolist() == [3, 6]
    else:
        with pytest.raises(InvalidInput, match="'factor' is left out, but over REST"):
            houses.predict(inputs, signature="scaled")
    inputs["factor"] = 2
    assert houses.predict(inputs, signature="scaled").output.tolist() == [2, 4]


def test_a_signature_that_is_not_there_names_those_that_are(houses: Any) -> None:
    words = "version 1 of model 'house' has no signature 'serve'; it has large, scaled, serving_def"
    with pytest.raises(InvalidInput, match=words):
        houses.predict(HOUSES, signature="serve")


def test_raw_sends_what_it_is_given(houses: Any, scheme: str) -> None:
    exact = {
        "rooms": np.array([3, 4]),
        "area": np.array([70.5, 120], np.float32),
        "city": HOUSES["city"],
        "place": np.array(HOUSES["place"], np.float32),
    }
    answer = houses.predict(exact, raw=True)
    assert answer.outputs["price"].tolist() == PRICES
    if scheme == "grpc":  # JSON has no dtypes
        with pytest.raises(Rejected):
            houses.predict({**exact, "area": np.array([1.0, 2.0])}, raw=True)


def test_a_model_that_is_not_there(models: Served, scheme: str, serving: Serving) -> None:
    with serving(models.url(scheme), model="hose") as client, pytest.raises(NotFound):
        client.predict([1])


def test_many_in_order(houses: Any) -> None:
    items = [
        {"rooms": [n] * (n % 4 + 1), "area": [n] * (n % 4 + 1), "city": [b"x"] * (n % 4 + 1),
         "place": np.full((n % 4 + 1, 3), n)}
        for n in range(100)
    ]  # fmt: skip
    answers = houses.predict_many(items, batch_size=7, in_flight=3)
    found = [answer.outputs["price"].tolist() for answer in answers]
    assert found == [[1013 * n] * (n % 4 + 1) for n in range(100)]


def test_many_that_cannot_be_merged_are_a_request_each(houses: Any) -> None:
    totals = houses.predict_many([[1.0, 2], [3.0], [4.0, 5, 6]], signature="total")
    assert [float(answer.output) for answer in totals] == [3, 3, 15]


def test_answers_that_have_not_a_row_for_each_are_asked_for_one_by_one(houses: Any) -> None:
    items = [[5, 20], [30], [1], [40, 50, 60]]
    large = houses.predict_many(items, signature="large")
    assert [answer.output.tolist() for answer in large] == [[20], [30], [], [40, 50, 60]]


def test_of_many_one_refusal_stays_in_its_place(houses: Any) -> None:
    items = [[1.0], ["text"], [2.0]]
    first, refused, last = houses.predict_many(items, signature="total", return_exceptions=True)
    assert [float(first.output), float(last.output)] == [1, 2]
    assert str(refused) == "item 1: input 'area' holds text; the model takes DT_FLOAT"
    with pytest.raises(InvalidInput, match="item 1: input 'area' holds text"):
        list(houses.predict_many(items, signature="total"))


def test_callers_at_once_share_requests(models: Served) -> None:
    methods: list[str] = []

    def observe(attempt: Attempt) -> contextlib.AbstractContextManager[None]:
        methods.append(attempt.method.rpartition("/")[2])
        return contextlib.nullcontext()

    async def ask() -> list[float]:
        async with AsyncServingClient(
            models.grpc, model="house", coalesce=0.05, observe=observe
        ) as client:
            await client.predict(HOUSES)  # learns the signature
            calls = [client.predict({**HOUSES, "rooms": [n, n]}) for n in range(50)]
            answers = await asyncio.gather(*calls)
            return [float(answer.outputs["price"][0]) for answer in answers]

    assert asyncio.run(ask()) == [1000.0 * n + 711 for n in range(50)]
    assert methods.count("GetModelMetadata") == 1
    assert methods.count("Predict") <= 6


def test_what_rest_refuses_costs_its_own_caller_alone(models: Served) -> None:
    async def ask() -> list[Any]:
        async with AsyncServingClient(models.rest, model="house", coalesce=0.05) as client:
            calls = [client.predict({**HOUSES, "area": [n, n]}) for n in (1.0, 1e-40, 3.0)]
            return await asyncio.gather(*calls, return_exceptions=True)

    first, refused, last = asyncio.run(ask())
    assert isinstance(refused, InvalidInput)
    assert [float(one.outputs["price"][0]) for one in (first, last)] == [3016, 3036]


def test_only_callers_of_one_kind_share_a_request(models: Served) -> None:
    async def ask() -> list[Any]:
        async with AsyncServingClient(models.grpc, model="echo", coalesce=0.05) as client:
            widths = [np.full((2, n % 3 + 1), n, np.float32) for n in range(30)]
            calls = [client.predict(array, signature="wide") for array in widths]
            answers = await asyncio.gather(*calls)
            return [
                np.array_equal(answer.output, array)
                for answer, array in zip(answers, widths, strict=True)
            ]

    assert asyncio.run(ask()) == [True] * 30


# --- there and back, bit for bit ---

# Of the types that numpy lacks, TensorFlow's own Python has no arrays of these: `test_wire` has.
_UNSERVED = {"INT4", "UINT4", "INT2", "UINT2", "FLOAT8_E4M3FNUZ", "FLOAT8_E4M3B11FNUZ",
             "FLOAT8_E5M2FNUZ"}  # fmt: skip
ROWS = [row for row in dtypes.BY_NUMBER.values() if row.name[3:] not in _UNSERVED]
BY_REST = {"DT_FLOAT", "DT_DOUBLE", "DT_INT8", "DT_UINT8", "DT_INT16", "DT_INT32", "DT_INT64",
           "DT_UINT32", "DT_UINT64", "DT_BOOL", "DT_STRING"}  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> tuple[dtypes.DType, Any]:
    """A dtype and an array of it, of any shape and any bits."""
    row = draw(st.sampled_from(ROWS))
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    size = int(np.prod(shape))
    if row is dtypes.STRING:
        array = np.empty(size, object)
        array[:] = draw(st.lists(st.binary(max_size=9), min_size=size, max_size=size))
    elif row.name == "DT_BOOL":
        array = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        length = size * row.numpy.itemsize
        array = np.frombuffer(draw(st.binary(min_size=length, max_size=length)), row.numpy)
    return row, _quiet(array, row).reshape(shape)


def _quiet(array: Any, row: dtypes.DType) -> Any:
    """Without signalling NaN: the answers of our server pass through Python, which quiets them."""
    if row is dtypes.BFLOAT16:
        return dtypes.to_bfloat16(_quiet(dtypes.from_bfloat16(array), dtypes.BY_NAME["DT_FLOAT"]))
    if row.numpy.kind not in "fc":
        return array
    parts = array.view(array.real.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isnan(parts), parts + 1, parts).view(row.numpy)


def _bits(array: Any, row: dtypes.DType) -> Any:
    if row is dtypes.STRING:
        return array.tolist()
    if row is dtypes.BFLOAT16 and array.dtype == np.float32:
        array = dtypes.to_bfloat16(array)
    return array.tobytes()


def _carried(array: Any, row: dtypes.DType) -> bool:
    """Whether JSON, as the server reads and writes it, has a text for this."""
    if row.numpy.kind == "f" and ((array != 0) & (abs(array) < np.finfo(row.numpy).tiny)).any():
        return False  # subnormal
    has_lost_sizes = 0 in array.shape and array.shape.index(0) != array.ndim - 1
    return row.name in BY_REST and not has_lost_sizes


@pytest.fixture(scope="module")
def echoes(models: Served) -> Iterator[tuple[ServingClient, ServingClient]]:
    with ServingClient(models.grpc, model="echo") as grpc:
        with ServingClient(models.rest, model="echo") as rest:
            yield grpc, rest


@settings(max_examples=settings().max_examples * 4)
@given(tensors())
def test_any_tensor_there_and_back(
    echoes: tuple[ServingClient, ServingClient], tensor: tuple[dtypes.DType, Any]
) -> None:
    (row, array), (grpc, rest) = tensor, echoes
    output = grpc.predict(array, signature=row.name).output
    assert output.shape == array.shape
    assert _bits(output, row) == _bits(array, row)
    if not _carried(array, row):
        with pytest.raises(InvalidInput, match=r"input 'x' .* over (gRPC|REST)"):
            rest.predict(array, signature=row.name)
        return
    output = rest.predict(array, signature=row.name).output
    assert output.dtype == row.numpy
    assert output.shape == array.shape
    if row.name == "DT_DOUBLE":  # the server's own parser is a few units off in the last place
        np.testing.assert_array_almost_equal_nulp(
            np.nan_to_num(output), np.nan_to_num(array), nulp=4
        )
    elif row.numpy.kind == "f":
        is_nan = np.isnan(array)
        assert np.array_equal(is_nan, np.isnan(output))  # which of the many is not told
        assert _bits(output[~is_nan], row) == _bits(array[~is_nan], row)
    else:
        assert _bits(output, row) == _bits(array, row)


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-10**9,
                            max_value=10**9), max_size=9))  # fmt: skip
def test_doubles_of_up_to_fifteen_digits_are_exact_over_rest(
    echoes: tuple[ServingClient, ServingClient], decimals: list[Any]
) -> None:
    array = np.array([*map(float, decimals)])
    output = echoes[1].predict(array, signature="DT_DOUBLE").output
    assert output.tobytes() == array.tobytes()


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_strings_that_are_no_text_survive_under_any_name(
    echoes: tuple[ServingClient, ServingClient], strings: list[bytes]
) -> None:
    for client in echoes:
        assert client.predict(strings, signature="text").output.tolist() == strings


# --- tf.Example ---

EXAMPLES = [{"age": 4, "weight": 1.0, "name": "ann"}, {"age": [2], "weight": [1.5], "name": b"bob"}]
SHARES = [0.25, 0.75]


@pytest.fixture
def people(models: Served, scheme: str, serving: Serving) -> Iterator[Any]:
    with serving(models.url(scheme), model="example") as client:
        yield client


def test_examples_are_classified(people: Any) -> None:
    assert people.classify_examples(EXAMPLES, signature="classify") == [
        [("ann", 0.25), ("ANN", 0.75)], [("bob", 0.75), ("BOB", 0.25)],
    ]  # fmt: skip
    with pytest.raises(Rejected):
        people.classify_examples([{"age": 4.0, "weight": 1.0}], signature="classify")


def test_examples_are_regressed(people: Any) -> None:
    found = people.regress_examples(EXAMPLES, signature="regress", version=1)
    assert (found.dtype, found.tolist()) == (np.float32, SHARES)


def test_examples_are_inputs_as_bytes(people: Any) -> None:
    answer = people.predict([*map(serialize_example, EXAMPLES)])
    assert answer.output.tolist() == SHARES
