"""The project's own model, its five signatures, in every way that a request can say it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import tensorflow as tf
import urllib3
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from deploy.runner import Server
from export.digits.graph.signatures import example, inputs_for
from tests.conftest import Version

COUNT = 5
SIGNATURES = ("serving_default", "predict_images", "packed", "encoded", "classify")
Encode = Callable[[NDArray[Any]], tensor_pb2.TensorProto]


class Asked(NamedTuple):
    """One input of a signature by name, and the probabilities that answer it."""

    alias: str
    values: NDArray[Any]
    probabilities: NDArray[np.float32]


@pytest.fixture(scope="module")
def asked(published: Version) -> dict[str, Asked]:
    with np.load(published.path / "assets.extra" / "golden.npz", allow_pickle=False) as golden:
        images, files = golden["images"][:COUNT], [bytes(f) for f in golden["files"][:COUNT]]
        of_images = golden["probabilities"][:COUNT]
        of_files = golden["file_probabilities"][:COUNT]
    inputs = inputs_for(images)
    inputs["encoded"] = np.array(files, dtype=object)
    inputs["classify"] = np.array([example(f).SerializeToString() for f in files], dtype=object)
    aliases = ("images", "images", "images", "image_bytes", "inputs")
    return {
        name: Asked(alias, inputs[name], of_files if name in ("encoded", "classify") else of_images)
        for name, alias in zip(SIGNATURES, aliases, strict=True)
    }


@pytest.fixture(scope="module")
def stub(project: Server) -> Iterator[Any]:
    with grpc.insecure_channel(project.grpc_url.removeprefix("grpc://")) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


# gRPC


def content(values: NDArray[Any]) -> tensor_pb2.TensorProto:
    """All in `tensor_content`; strings as their lengths (varints) and then their bytes."""
    proto = bare(values)
    if values.dtype == object:
        lengths = b"".join(varint(len(value)) for value in values)
        proto.tensor_content = lengths + b"".join(values)
    else:
        proto.tensor_content = values.tobytes()
    return proto


def typed(values: NDArray[Any]) -> tensor_pb2.TensorProto:
    """A number or string each in the field of its type."""
    proto = bare(values)
    fields = {"float32": proto.float_val, "uint8": proto.int_val, "object": proto.string_val}
    fields[values.dtype.name].extend(values.ravel().tolist())
    return proto


def bare(values: NDArray[Any]) -> tensor_pb2.TensorProto:
    dtype = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def ask(stub: Any, signature: str, alias: str, tensor: tensor_pb2.TensorProto) -> dict[str, Any]:
    """Outputs as arrays; the answer says which version and signature gave it."""
    request = predict_pb2.PredictRequest(inputs={alias: tensor})
    request.model_spec.name = "mnist"
    request.model_spec.signature_name = signature
    answer = stub.Predict(request, timeout=60)
    spec = answer.model_spec
    assert (spec.name, spec.version.value) == ("mnist", 1)
    assert spec.signature_name == (signature or "serving_default")
    return {alias: tf.make_ndarray(proto) for alias, proto in answer.outputs.items()}


@pytest.mark.parametrize("encode", [content, typed, tf.make_tensor_proto])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_grpc(signature: str, encode: Encode, stub: Any, asked: dict[str, Asked]) -> None:
    alias, values, probabilities = asked[signature]
    check(signature, ask(stub, signature, alias, encode(values)), probabilities)


@pytest.mark.parametrize("signature", SIGNATURES[:2])
def test_one_value_fills_the_tensor(signature: str, stub: Any, asked: dict[str, Asked]) -> None:
    alias, values, _ = asked[signature]
    grey = np.ones_like(values)
    broadcast = typed(grey.ravel()[:1])
    broadcast.tensor_shape.CopyFrom(bare(grey).tensor_shape)
    got, want = (ask(stub, signature, alias, each) for each in (broadcast, content(grey)))
    for output, array in want.items():
        np.testing.assert_array_equal(got[output], array)


def test_no_signature_is_the_default_one(stub: Any, asked: dict[str, Asked]) -> None:
    alias, values, probabilities = asked["serving_default"]
    check("serving_default", ask(stub, "", alias, content(values)), probabilities)


def check(signature: str, outputs: dict[str, Any], probabilities: NDArray[np.float32]) -> None:
    """The outputs of a signature, arrays or JSON's lists, are those of these probabilities."""
    if signature == "classify":
        assert outputs.keys() == {"classes", "scores"}
        order = np.array(outputs["classes"]).astype(int)
        scores = np.array(outputs["scores"], np.float32)
        assert (np.diff(scores, axis=1) <= 0).all()
        got = np.empty_like(scores)
        np.put_along_axis(got, order, scores, axis=1)
    elif signature == "predict_images":
        got = np.array(outputs["scores"], np.float32)
    else:
        assert outputs.keys() == {"probabilities", "digits"}
        np.testing.assert_array_equal(outputs["digits"], probabilities.argmax(1))
        got = np.array(outputs["probabilities"], np.float32)
    np.testing.assert_allclose(got, probabilities, atol=1e-5)


# REST


def as_json(values: NDArray[Any]) -> list[Any]:
    if values.dtype == object:
        return [{"b64": base64.b64encode(value).decode()} for value in values]
    listed: list[Any] = values.tolist()
    return listed


FORMS: dict[str, Callable[[str, list[Any]], dict[str, Any]]] = {
    "rows": lambda _, values: {"instances": values},
    "named-rows": lambda alias, values: {"instances": [{alias: value} for value in values]},
    "columns": lambda _, values: {"inputs": values},
    "named-columns": lambda alias, values: {"inputs": {alias: values}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signature", SIGNATURES)
def test_rest(signature: str, form: str, project: Server, asked: dict[str, Asked]) -> None:
    alias, values, probabilities = asked[signature]
    body = {"signature_name": signature, **FORMS[form](alias, as_json(values))}
    answer = post(project, "predict", body)
    only = "scores" if signature == "predict_images" else None  # one output goes without its name
    if "predictions" in answer and only is None:
        named = answer["predictions"]
        outputs = {name: [row[name] for row in named] for name in named[0]}
    else:
        (outputs,) = answer.values()
    check(signature, {only: outputs} if only else outputs, probabilities)


def post(project: Server, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{project.rest_url}/v1/models/mnist/versions/1:{verb}"
    response = urllib3.request("POST", url, body=json.dumps(body))
    assert response.status == 200, response.data
    answer: dict[str, Any] = response.json()
    return answer


# The Classify API


def test_classify_over_grpc(stub: Any, asked: dict[str, Asked]) -> None:
    _, examples, probabilities = asked["classify"]
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "mnist", "classify"
    for each in examples:
        request.input.example_list.examples.add().ParseFromString(each)
    answer = stub.Classify(request, timeout=60)
    assert answer.model_spec.version.value == 1
    found = [
        [(one.label, one.score) for one in row.classes] for row in answer.result.classifications
    ]
    check_classes(found, probabilities)


def test_classify_over_rest(project: Server, asked: dict[str, Asked]) -> None:
    _, files, probabilities = asked["encoded"]
    examples = [{"image/encoded": file} for file in as_json(files)]
    answer = post(project, "classify", {"signature_name": "classify", "examples": examples})
    check_classes(answer["results"], probabilities)


def check_classes(found: list[list[Any]], probabilities: NDArray[np.float32]) -> None:
    outputs = {
        "classes": [[label for label, _ in row] for row in found],
        "scores": [[score for _, score in row] for row in found],
    }
    check("classify", outputs, probabilities)


# What it says of itself


def test_metadata(project: Server) -> None:
    answer = urllib3.request("GET", f"{project.rest_url}/v1/models/mnist/metadata").json()
    assert answer["model_spec"] == {"name": "mnist", "signature_name": "", "version": "1"}
    found = answer["metadata"]["signature_def"]["signature_def"]
    shapes = {
        name: {
            alias: (info["dtype"], [int(dim["size"]) for dim in info["tensor_shape"]["dim"]])
            for part in ("inputs", "outputs")
            for alias, info in found[name][part].items()
        }
        for name in SIGNATURES
    }
    whole = {"probabilities": ("DT_FLOAT", [-1, 10]), "digits": ("DT_INT64", [-1])}
    strings = ("DT_STRING", [-1])
    scores = ("DT_FLOAT", [-1, 10])
    assert shapes == {
        "serving_default": {"images": ("DT_UINT8", [-1, 28, 28]), **whole},
        "predict_images": {"images": ("DT_FLOAT", [-1, 784]), "scores": scores},
        "packed": {"images": strings, **whole},
        "encoded": {"image_bytes": strings, **whole},
        "classify": {"inputs": strings, "classes": ("DT_STRING", [-1, 10]), "scores": scores},
    }
    methods = {name: found[name]["method_name"].rpartition("/")[2] for name in SIGNATURES}
    assert methods == {**dict.fromkeys(SIGNATURES, "predict"), "classify": "classify"}
