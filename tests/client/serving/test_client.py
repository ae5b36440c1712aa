"""The verbs for any model, over both protocols, with threads and with asyncio."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tests.client.conftest import ScriptedGrpc, ScriptedHttp, Server, Serving, grpc_status
from tfserving_client import (
    AsyncDigitClient,
    AsyncServingClient,
    CallError,
    DeadlineExceeded,
    DigitClient,
    ServerFailed,
    ServingClient,
    Signature,
    State,
    TensorSpec,
    VersionStatus,
)


@pytest.mark.parametrize("kind", [ServingClient, AsyncServingClient])
def test_a_model_has_to_be_named(kind: Any) -> None:
    with pytest.raises(TypeError, match="model"):
        kind("grpc://a")


def test_the_digits_clients_are_such_clients_of_a_model_that_is_mnist_unless_told() -> None:
    assert isinstance(DigitClient("grpc://a"), ServingClient)
    assert isinstance(AsyncDigitClient("grpc://a"), AsyncServingClient)
    assert (DigitClient("grpc://a").model, AsyncDigitClient("grpc://a").model) == ("mnist", "mnist")


def test_a_request_names_the_model(serving: Serving, server: Server) -> None:
    with serving(server.url, model="price to ask") as client, suppress(CallError):
        client.ready()  # whatever the answer is
    named = server.calls[0][1]
    assert named in {"/v1/models/price%20to%20ask", b"\n\x0e\n\x0cprice to ask"}


def test_status_over_both(
    serving: Serving, grpc_server: ScriptedGrpc, http_server: ScriptedHttp
) -> None:
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=2, state=50).status.error_message = "broken"
    response.model_version_status.add(version=1, state=30)
    grpc_server.behaviour = lambda *_: response.SerializeToString()
    rows = [("2", "END", "broken"), ("1", "AVAILABLE", "")]
    http_server.body = json.dumps(
        {
            "model_version_status": [
                {"version": version, "state": state, "status": {"error_message": error}}
                for version, state, error in rows
            ]
        }
    ).encode()
    expected = (VersionStatus(2, State.END, "broken"), VersionStatus(1, State.AVAILABLE))
    for url in (grpc_server.url, http_server.url):
        with serving(url) as client:
            assert client.status() == expected
            assert client.ready()


def test_metadata_over_both(
    serving: Serving, grpc_server: ScriptedGrpc, http_server: ScriptedHttp
) -> None:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    definition = signatures.signature_def["encoded"]
    definition.inputs["image_bytes"].dtype = 7
    definition.inputs["image_bytes"].tensor_shape.dim.add(size=-1)
    definition.outputs["digits"].dtype = 9
    definition.outputs["digits"].tensor_shape.unknown_rank = True
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "mnist"
    response.model_spec.version.value = 4
    response.metadata["signature_def"].Pack(signatures)
    grpc_server.behaviour = lambda *_: response.SerializeToString()
    http_server.body = json.dumps(
        {
            "model_spec": {"name": "mnist", "signature_name": "", "version": "4"},
            "metadata": {
                "signature_def": {
                    "signature_def": {
                        "encoded": {
                            "inputs": {
                                "image_bytes": {
                                    "dtype": "DT_STRING",
                                    "tensor_shape": {
                                        "dim": [{"size": "-1", "name": ""}],
                                        "unknown_rank": False,
                                    },
                                }
                            },
                            "outputs": {
                                "digits": {
                                    "dtype": "DT_INT64",
                                    "tensor_shape": {"dim": [], "unknown_rank": True},
                                }
                            },
                        }
                    }
                }
            },
        }
    ).encode()
    expected = Signature(
        {"image_bytes": TensorSpec("DT_STRING", (None,))}, {"digits": TensorSpec("DT_INT64", None)}
    )
    for url in (grpc_server.url, http_server.url):
        with serving(url) as client:
            metadata = client.metadata()
        assert (metadata.model, metadata.version) == ("mnist", 4)
        assert metadata.signatures == {"encoded": expected}


def test_waiting_ends_when_a_version_is_available(
    serving: Serving, grpc_server: ScriptedGrpc
) -> None:
    answers = [grpc_status(10), grpc_status(20), grpc_status(30)]
    grpc_server.behaviour = lambda *_: answers.pop(0)
    with serving(grpc_server.url) as client:
        client.wait_until_ready(timeout=30)
    assert answers == []


def test_waiting_in_vain_says_what_was_last_seen(
    serving: Serving, grpc_server: ScriptedGrpc
) -> None:
    grpc_server.behaviour = lambda *_: grpc_status(20)
    with serving(grpc_server.url) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="version 5 LOADING"):
            client.wait_until_ready(timeout=2)
        assert time.monotonic() - started >= 2


def test_waiting_for_a_version_that_failed_ends_at_once(
    serving: Serving, grpc_server: ScriptedGrpc
) -> None:
    grpc_server.behaviour = lambda *_: grpc_status(50, "Could not find SavedModel")
    with serving(grpc_server.url) as client:
        with pytest.raises(ServerFailed, match="Could not find SavedModel"):
            client.wait_until_ready(version=5, timeout=60)
    assert len(grpc_server.calls) == 1
