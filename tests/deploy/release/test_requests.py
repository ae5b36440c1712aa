"""Live requests as the gateway keeps them, read and asked again, on real servers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.operate.errors import InputError
from deploy.release import golden
from deploy.release.compare import Comparison, compare
from deploy.release.golden import CLASSIFY, REGRESS, Answers
from deploy.release.requests import Request, of_lines, of_rows
from deploy.runner import serve
from tests.conftest import Version
from tfserving_client import ServingClient, Signature, serialize_example
from tfserving_client.call.exchange import Wire
from tfserving_client.errors import CallContext
from tfserving_client.grpc import messages
from tfserving_client.grpc.wire import GrpcWire
from tfserving_client.rest.wire import RestWire
from tfserving_client.tensors.features import checked_examples

DIGITS = "/v1/models/mnist:predict"
JOINED = "/v1/models/levels:predict"


@pytest.fixture(scope="module")
def of_levels(levels: Path) -> Iterator[ServingClient]:
    with serve(levels, name="m", version=1) as server:
        with ServingClient(server.grpc_url, model="m") as serving:
            yield serving


@pytest.fixture(scope="module")
def of_digits(published: Version) -> Iterator[ServingClient]:
    with serve(published.path, name="m", version=1) as server:
        with ServingClient(server.grpc_url, model="m") as serving:
            yield serving


def _line(path: str, body: bytes) -> bytes:
    """As `deploy/gateway/shadow.js` writes it."""
    return json.dumps({"path": path, "body": base64.b64encode(body).decode()}).encode() + b"\n"


def _sent(wire: Wire, signature: str, answers: Answers, declared: Signature) -> bytes:
    """What the client sends to ask for golden answers, as the gateway keeps it."""
    context = CallContext("", "m", signature=signature)
    exchange: Any
    if answers.method == CLASSIFY:
        exchange = wire.classify(context, checked_examples(answers.examples))
    elif answers.method == REGRESS:
        exchange = wire.regress(context, checked_examples(answers.examples))
    else:
        exchange = wire.predict(context, answers.inputs, (), declared)
    return _line(exchange.method.removeprefix("POST "), exchange.body)


@pytest.mark.parametrize(
    ("wire", "asked"),
    [
        (GrpcWire(), {"classes", "price", "joined", "half"}),
        (RestWire(), {"classes", "price", "joined"}),  # halves cannot be asked over REST
    ],
)
def test_what_callers_send_is_asked_again_as_it_was(
    wire: Wire, asked: set[str], levels: Path, of_levels: ServingClient
) -> None:
    signatures = of_levels.metadata().signatures
    answers = golden.read(levels)
    lines = b"".join(_sent(wire, name, answers[name], signatures[name]) for name in sorted(asked))
    requests, others = of_lines(lines, signatures)
    assert [one.signature for one in requests] == sorted(asked)
    assert others == 0
    for one in requests:
        got = of_levels.predict(one.inputs, signature=one.signature, raw=one.as_sent).outputs
        for alias, want in answers[one.signature].outputs.items():
            if want.dtype == object:
                assert np.ravel(got[alias]).tolist() == np.ravel(want).tolist()
            else:
                np.testing.assert_allclose(np.ravel(got[alias]), np.ravel(want), rtol=1e-3)


def _rows(text: Mapping[str, Any]) -> bytes:
    return json.dumps(text).encode()


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"word": "a", "end": "!"}, {"word": "b", "end": "!"}]},
        {"instances": [{"word": {"b64": "YQ=="}, "end": "!"}, {"word": "b", "end": "!"}]},
        {"inputs": {"word": ["a", "b"], "end": "!"}},
    ],
)
def test_every_form_of_rest(body: Mapping[str, Any], of_levels: ServingClient) -> None:
    signatures = {"joined": of_levels.metadata().signatures["joined"]}
    if "instances" in body:  # rows of a signature where every input has rows
        end = signatures["joined"].inputs["word"]
        signatures = {"joined": Signature({"word": end, "end": end}, {})}
    line = _line(JOINED, _rows({"signature_name": "joined", **body}))
    ((request,), others) = of_lines(line, signatures)
    assert others == 0
    assert request.inputs["word"].tolist() == [b"a", b"b"]


@pytest.mark.parametrize("name", [{}, {"signature_name": ""}])
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_values_without_a_name_are_of_the_only_input(
    form: str, name: Mapping[str, str], of_digits: ServingClient
) -> None:
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    line = _line(DIGITS, _rows({form: images.tolist(), **name}))
    ((request,), _) = of_lines(line, of_digits.metadata().signatures)
    ((alias, got),) = request.inputs.items()
    assert (request.signature, alias, got.dtype.name) == ("serving_default", "images", "uint8")
    np.testing.assert_array_equal(got, images)


def test_examples_have_the_features_of_their_context(of_levels: ServingClient) -> None:
    rows = [{"size": 0.5}, {"size": 0.25}]
    context = {"count": [2], "name": {"b64": base64.b64encode(b"ab").decode()}}
    over_rest = _rows({"signature_name": "price", "context": context, "examples": rows})
    written = [messages.Example.FromString(serialize_example(row)) for row in rows]
    shared = messages.Example.FromString(serialize_example({"count": [2], "name": b"ab"}))
    over_grpc = messages.ExamplesRequest(
        model_spec={"name": "m", "signature_name": "price"},
        input={"example_list_with_context": {"examples": written, "context": shared}},
    ).SerializeToString()
    lines = _line("/v1/models/m:regress", over_rest)
    lines += _line("/tensorflow.serving.PredictionService/Regress", over_grpc)
    requests, _ = of_lines(lines, of_levels.metadata().signatures)
    assert len(requests) == 2
    for one in requests:
        got = of_levels.predict(one.inputs, signature="price").outputs["outputs"]
        np.testing.assert_allclose(np.ravel(got), [50, 25])


def _claiming(size: int) -> bytes:
    """A PredictRequest of few bytes whose tensor claims to have many."""
    shape = messages.TensorShape(dim=[{"size": size}]).SerializeToString()
    made = messages.PredictRequest(model_spec={"name": "m"})
    made.inputs["x"].CopyFrom(messages.Tensor(dtype=1, tensor_shape=shape, float_val=bytes(4)))
    written: bytes = made.SerializeToString()
    return written


@pytest.mark.parametrize(
    "line",
    [
        b"half a line\n",
        _line(DIGITS, b"no JSON"),
        _line(DIGITS, b"[1]"),
        _line(DIGITS, b'{"instances": []}'),
        _line(DIGITS, b'{"instances": [[1, 2], [3]]}'),
        _line(DIGITS, b'{"instances": [[0.5]], "signature_name": "none"}'),
        _line("/v1/models/m:classify", b'{"examples": []}'),
        _line("/tensorflow.serving.PredictionService/Predict", b"\xff\xff"),
        _line("/tensorflow.serving.PredictionService/Predict", _claiming((16 << 20) + 1)),
        _line("/tensorflow.serving.PredictionService/Classify", b""),
    ],
)
def test_what_is_no_request_is_counted(line: bytes, of_digits: ServingClient) -> None:
    good = _line(DIGITS, _rows({"instances": np.zeros((1, 28, 28), int).tolist()}))
    requests, others = of_lines(good + line + good, of_digits.metadata().signatures)
    assert (len(requests), others) == (2, 1)


def _compared(
    ours: ServingClient, theirs: ServingClient, requests: Sequence[Request]
) -> Comparison:
    return compare((ours, theirs), (2, 1), requests, agreement=0.98)


def _of_answers(found: Comparison) -> list[str]:
    """The problems but for times, which are a matter of chance where so little is done."""
    return [one for one in found.problems if not one.startswith("a request takes")]


def test_several_signatures_are_told_apart_and_what_neither_takes_is_counted(
    levels: Path, of_levels: ServingClient
) -> None:
    answers = golden.read(levels)
    requests = [one for name in ("half", "price") for one in of_rows(answers[name].inputs, name)]
    found = _compared(of_levels, of_levels, [*requests, Request("none", {"x": np.zeros(1)})])
    assert _of_answers(found) == []
    assert (found.requests, found.refused, [*found.outputs]) == (2, 1, ["half y", "price outputs"])
    assert "2 requests answered by both; 1 more are accepted by neither" in next(found.lines())


def test_a_candidate_that_refuses_what_is_answered_does_not_do_as_the_other(
    published: Version, of_levels: ServingClient, of_digits: ServingClient
) -> None:
    requests = of_rows(golden.read(published.path)["serving_default"].inputs, "serving_default")
    found = _compared(of_levels, of_digits, requests)
    (problem,) = _of_answers(found)
    assert problem.startswith(f"{len(requests)} of {len(requests)} requests are refused, but")
    assert (found.requests, found.shown, json.loads(found.as_json())["alike"]) == (0, [], False)
    assert "not behave like" in [*found.lines()][-1]
    with pytest.raises(InputError, match="serving_default"):
        _compared(of_levels, of_levels, requests)


def test_rows_that_are_no_pictures_are_shown_with_what_they_asked(
    levels: Path, of_levels: ServingClient
) -> None:
    class Other:
        """The same server, which joins in another way."""

        def predict(self, inputs: Mapping[str, Any], **how: Any) -> Any:
            changed = {**inputs, "end": np.array(b"?", object)}
            return of_levels.predict(changed, **how)

    requests = of_rows(golden.read(levels)["joined"].inputs, "joined")
    other: Any = Other()
    found = _compared(of_levels, other, requests)
    assert [one.row for one in found.shown] == [0, 1, 2]
    table = [line for line in found.lines() if line.startswith(("ROW", "0 "))]
    assert table[0].split()[-1] == "INPUT"
    assert "joined: b'a\\x00!" in table[1]
    assert "word: b'a\\x00', end: b'!" in table[1]


def test_empty_and_single_values_can_be_compared() -> None:
    class Scalar:
        """Answers one number for all rows, and none for none."""

        def predict(self, inputs: Mapping[str, Any], **_: Any) -> Any:
            class Answer:
                outputs = {"mean": np.float32(1), "same": inputs["x"]}  # noqa: RUF012

            return Answer()

    serving: Any = Scalar()
    requests = [Request("s", {"x": np.zeros((rows, 2), np.float32)}) for rows in (0, 3)]
    found = _compared(serving, serving, requests)
    assert _of_answers(found) == []
    assert (found.outputs["mean"].rows, found.outputs["same"].rows) == (2, 3)
