"""What several requests do to one another in the batches of one queue."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2

from tests.congruence.comparing import Answer, difference
from tests.congruence.more import PREDICT, floats, line, post, predict, said
from tests.congruence.reporting import told
from tests.congruence.stage import Stage


@dataclass(frozen=True)
class Meeting:
    """Two requests of a row each that make one batch, and the answers."""

    id: str
    requests: tuple[dict[str, Any], dict[str, Any]]
    answers: tuple[Answer, Answer]
    setup: str = "meeting"
    compare: str | None = None


DOUBLE = {"dtype": "DT_DOUBLE", "tensor_shape": {"dim": [{"size": "1"}]}, "double_val": [1.0]}
ONE, TWO = (predict("line", {"x": floats(value)}) for value in (1.0, 2.0))
SHORT = predict("matrix", {"x": floats(1.0, 2.0, shape=(1, 2))})
LONG = predict("matrix", {"x": floats(10.0, 20.0, 30.0, shape=(1, 3))})
DIFFERENT_SHAPES = said(
    "FAILED_PRECONDITION",
    "Tensors with name 'x:0' from different tasks have different shapes and padding is turned off."
    " Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have"
    " equal dimensions starting with the first dim.",
)
CONCAT = said(
    "INTERNAL", r"Tensor concat operation failed: .*Got (float and double|double and float)\..*"
)


def _row_sum(value: float) -> Answer:
    spec = {"name": "matrix", "version": "1", "signature_name": "serving_default"}
    return {"code": "OK", "message": {"outputs": {"row_sum": floats(value)}, "model_spec": spec}}


MEETINGS = [
    Meeting("each-gets-its-own-row", (ONE, TWO), (line(1.0), line(2.0))),
    Meeting(
        "over-both-protocols",
        (ONE, post("line", '{"instances": [2.0]}')),
        (
            line(1.0),
            {
                "status": 200,
                "type": "application/json",
                "body": '{\n    "predictions": [5.0\n    ]\n}',
            },
        ),
    ),
    Meeting("differing-inner-shapes", (SHORT, LONG), (DIFFERENT_SHAPES, DIFFERENT_SHAPES)),
    Meeting(
        "differing-types",
        (ONE, predict("line", {"x": DOUBLE})),
        (CONCAT, CONCAT),
        compare="pattern",
    ),
    # A row is filled up with the first element of its tensor.
    Meeting("padded", (SHORT, LONG), (_row_sum(4.0), _row_sum(60.0)), "padding_rows"),
]


@pytest.mark.parametrize("case", [pytest.param(vars(each), id=each.id) for each in MEETINGS])
def test_two_requests_in_one_batch(case: dict[str, Any], stage: Stage) -> None:
    meeting = Meeting(**case)
    server = stage.server(meeting.setup)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(server.ask, meeting.requests))
    for request, want, got in zip(meeting.requests, meeting.answers, answers, strict=True):
        if what := difference(want, got, meeting.compare):
            pytest.fail(told(what, request, want, got), pytrace=False)


FULL = (
    r"The batch scheduling queue to which this task was submitted is full; currently \d+ batches "
    r"enqueued and max_enqueued_batches is 1"
)


def test_a_full_queue_refuses(stage: Stage) -> None:
    """While one request runs and one waits, neither of which is ever answered."""
    server = stage.server("queue")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "stuck"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    call = server.channel.unary_unary(PREDICT["method"])
    body, calls = request.SerializeToString(), list[Any]()

    def unanswered() -> int:
        return sum(not each.done() for each in calls)

    def two_stay() -> bool:
        # Until one is taken from the queue, no other gets into it.
        while unanswered() < 2:
            calls.append(call.future(body, timeout=300))
        time.sleep(3)  # a refusal comes sooner
        return unanswered() == 2

    try:
        server.until(two_stay, "one that runs and one that waits")
        first = call.future(body, timeout=60)
        assert first.code() == grpc.StatusCode.UNAVAILABLE, first.details()
        got = {"code": first.code().name, "details": first.details()}
        assert difference(said("UNAVAILABLE", FULL), got, "pattern") is None, got
        rest = post("stuck", '{"instances": [1.0]}')
        text = f'\\{{\n    "error": "{FULL}"\n\\}}'
        want = {"status": 503, "type": "application/json", "body": text}
        answer = server.ask(rest)
        if what := difference(want, answer, "pattern"):
            pytest.fail(told(what, rest, want, answer), pytrace=False)
    finally:
        for each in calls:
            each.cancel()
