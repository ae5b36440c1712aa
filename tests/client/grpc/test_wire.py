from __future__ import annotations

import math
from typing import Any

import pytest
from tensorflow_serving.apis import predict_pb2

from tfserving_client import BadResponse, CallError, Overloaded, Rejected, ServerFailed, Unreachable
from tfserving_client.digits.images import prepare
from tfserving_client.errors import CallContext
from tfserving_client.grpc.wire import GrpcWire, failure

CONTEXT = CallContext("grpc://here:1", "mnist")


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        ("UNAVAILABLE", "connections to all backends failing", Unreachable),
        ("UNAVAILABLE", "Failed parsing HTTP/2", BadResponse),
        ("UNAVAILABLE", "Trying to connect an http1.x server", BadResponse),
        ("UNKNOWN", "Received http2 header with status: 502", BadResponse),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 4)", Rejected),
        ("RESOURCE_EXHAUSTED", "the queue is full", Overloaded),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this request was submitted is full; task size: 1",
            Overloaded,
        ),
        ("UNKNOWN", "Stream removed", Unreachable),
        ("A_STATUS_OF_LATER", "", ServerFailed),
    ],
)
def test_words_tell_apart_what_a_status_does_not(
    status: str, details: str, kind: type[CallError]
) -> None:
    error = failure(CONTEXT, status, details, {})
    assert type(error) is kind
    assert error.server_text == f"{status} {details}"


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, None), ({"grpc-retry-pushback-ms": "250"}, 0.25), ({"retry-after": "3"}, 3.0),
        ({"grpc-retry-pushback-ms": "-1"}, math.inf), ({"grpc-retry-pushback-ms": "soon"}, None),
        ({"grpc-retry-pushback-ms": "100", "retry-after": "3"}, 0.1),
    ],
)  # fmt: skip
def test_the_servers_advice_is_seconds(metadata: dict[str, Any], seconds: float | None) -> None:
    assert failure(CONTEXT, "UNAVAILABLE", "", metadata).retry_after == seconds


def test_any_cut_answer_is_unreadable_or_incomplete_and_never_another_error() -> None:
    response = predict_pb2.PredictResponse()
    response.outputs["digits"].dtype = 9
    response.outputs["digits"].tensor_shape.dim.add(size=3)
    response.outputs["digits"].int64_val.extend([1, 2, 300])
    exchange = GrpcWire().predict(CONTEXT, prepare([[0.0] * 784]).inputs)
    whole = response.SerializeToString()
    for cut in range(1, len(whole)):
        with pytest.raises(BadResponse):
            exchange.decode(whole[:cut])
    assert exchange.decode(whole).outputs["digits"].tolist() == [1, 2, 300]
