"""Setups and rows that the recorded ones lack, derived from the rules and not from a recording."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

PREDICT = {
    "method": "/tensorflow.serving.PredictionService/Predict",
    "type": "tensorflow.serving.PredictRequest",
    "reply": "tensorflow.serving.PredictResponse",
}


def predict(model: str, inputs: Mapping[str, Any], signature: str = "") -> dict[str, Any]:
    """A request over gRPC; `inputs` are TensorProtos as protobuf JSON."""
    spec = {"name": model, "signature_name": signature}
    return {**PREDICT, "message": {"model_spec": spec, "inputs": inputs}}


def floats(*values: float, shape: Iterable[int] = (-1,)) -> dict[str, Any]:
    sizes = [str(len(values) if size < 0 else size) for size in shape]
    dims = {"dim": [{"size": size} for size in sizes]}
    return {"dtype": "DT_FLOAT", "tensor_shape": dims, "float_val": list(values)}


def post(model: str, body: str) -> dict[str, Any]:
    return {"verb": "POST", "path": f"/v1/models/{model}:predict", "body": body}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def said(code: str, details: str) -> dict[str, Any]:
    return {"code": code, "details": details}


def line(*values: float) -> dict[str, Any]:
    """What version 3 of `line` makes of them."""
    spec = {"name": "line", "version": "3", "signature_name": "serving_default"}
    outputs = {"y": floats(*(value / 2 + 4 for value in values))}
    return {"code": "OK", "message": {"outputs": outputs, "model_spec": spec}}


# Setups


def _batching(parameters: str, *names: str, **flags: str) -> dict[str, Any]:
    configs = "\n".join(
        f'config {{ name: "{name}" base_path: "{{models}}/{name}" model_platform: "tensorflow" }}'
        for name in names
    )
    return {
        "flags": {
            "model_config_file": "{work}/models.config",
            "enable_batching": "true",
            "batching_parameters_file": "{work}/batching.config",
            **flags,
        },
        "files": {
            "models.config": f"model_config_list {{ {configs} }}",
            "batching.config": parameters,
        },
    }


_PAIRS = " batch_timeout_micros { value: 30000000 } num_batch_threads { value: 2 }"
SETUPS = {
    # One batch runs and one waits.
    "queue": _batching(
        "max_batch_size { value: 1 } max_enqueued_batches { value: 1 }"
        " num_batch_threads { value: 1 } batch_timeout_micros { value: 0 }",
        "stuck",
        grpc_max_threads="32",
    ),
    # Two rows make a batch; one alone waits half a minute for the other.
    "meeting": _batching("max_batch_size { value: 2 }" + _PAIRS, "line", "matrix"),
    "padding_rows": _batching(
        "max_batch_size { value: 2 } pad_variable_length_inputs: true" + _PAIRS, "matrix"
    ),
    "splitting": _batching(
        "max_batch_size { value: 6 } max_execution_batch_size { value: 2 }"
        " enable_large_batch_splitting { value: true }" + _PAIRS,
        "line",
    ),
}

# How floats print


def _printed(value: np.floating[Any]) -> str:
    """Six digits; if they are another number, enough for every number."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "-Infinity" if value < 0 else "Infinity"
    if abs(value) < np.finfo(type(value)).smallest_normal:
        return "0.0"
    kind = type(value)
    text = f"{value:.6g}"
    if kind(text) != value:
        text = f"{value:.{9 if kind is np.float32 else 17}g}"
    return text if {"e", "."} & set(text) else text + ".0"


def _sweeps(kind: type[np.floating[Any]]) -> Iterator[tuple[str, list[float]]]:
    info = np.finfo(kind)
    low, high = int(info.minexp), int(info.maxexp)
    yield "special", [math.nan, math.inf, -math.inf, 0.0]
    yield "subnormal", [float(info.smallest_subnormal), float(info.smallest_normal) / 2]
    tiny, most, step = (float(each) for each in (info.smallest_normal, info.max, info.eps))
    yield "extremes", [tiny, -tiny, most, -most, 1 + step, 1 - step / 2, most / 2]
    yield "steps", [n / 10 for n in range(-200, 201)]
    yield "cents", [n / 100 for n in range(200)]
    yield "powers-of-two", [math.ldexp(1.0, n) for n in range(low, high)]
    yield "powers-of-ten", [float(f"{m}e{n}") for n in range(-37, 38) for m in (1, 9.99999, 7.5)]
    rng = np.random.default_rng(20)
    exponents = rng.uniform(math.log10(tiny) + 1, math.log10(most) - 1, 500)
    yield "anywhere", (rng.choice([-1, 1], 500) * 10**exponents).tolist()
    yield "probabilities", rng.dirichlet(np.full(10, 0.1), 50).ravel().clip(1e-30).tolist()


def _printing() -> Iterator[dict[str, Any]]:
    for name, kind in (("float", np.float32), ("double", np.float64)):
        for what, values in _sweeps(kind):
            array = np.array(values, kind)
            rows = ",\n".join(f"        {_printed(value)}" for value in array)
            raw = _base64(array.tobytes())
            body = f'{{"signature_name": "{name}", "inputs": {{"b64": "{raw}"}}}}'
            yield {
                "id": f"more-printing/{name}-{what}",
                "setup": "main",
                "request": post("bits", body),
                "compare": "text",
                "response": {
                    "status": 200,
                    "type": "application/json",
                    "body": f'{{\n    "outputs": [\n{rows}\n    ]\n}}',
                },
            }


# Requests that are larger than a batch


def _splitting() -> Iterator[dict[str, Any]]:
    for rows, answer in (
        (2, line(0, 1)),
        (4, line(0, 1, 2, 3)),
        (6, line(0, 1, 2, 3, 4, 5)),
        (7, said("INVALID_ARGUMENT", "Task size 7 is larger than maximum input batch size 6")),
    ):
        yield {
            "id": f"more-batching/splitting-{rows}-rows",
            "setup": "splitting",
            "request": predict("line", {"x": floats(*range(rows))}),
            "response": answer,
        }


# Requests that no client of ours makes


def _tensor(dtype: str, size: int, **values: Any) -> dict[str, Any]:
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)}]}, **values}


_EXPECTS = "Expects arg[0] to be float but {} is provided"
_RESOURCE = (
    "Invalid resource type hash code: 0(name:  type: ). Perhaps a resource tensor was being"
    " provided as a feed? That is not currently allowed. Please file an issue at"
    " https://github.com/tensorflow/tensorflow/issues/new, ideally with a short code snippet that"
    " leads to this error message."
)


def _tensors() -> Iterator[dict[str, Any]]:
    texts = {"string_val": [_base64(b"one"), ""]}
    spec = {"name": "types", "version": "1", "signature_name": "string"}
    answer = _tensor("DT_STRING", 2, tensor_content=_base64(b"\x03\x00one"))
    yield {
        "id": "more-tensors/strings-as-content",
        "setup": "content",
        "request": predict("types", {"x": _tensor("DT_STRING", 2, **texts)}, "string"),
        "response": {"code": "OK", "message": {"outputs": {"y": answer}, "model_spec": spec}},
    }
    yield {
        "id": "more-tensors/bool-that-is-none",
        "setup": "main",
        "request": predict(
            "types", {"x": _tensor("DT_BOOL", 2, tensor_content=_base64(b"\x02\x01"))}, "bool"
        ),
        "response": said("INVALID_ARGUMENT", "tensor parsing error: x"),
    }
    for dtype in ("INT4", "UINT4", "FLOAT8_E4M3FNUZ", "FLOAT8_E4M3B11FNUZ", "FLOAT8_E5M2FNUZ"):
        yield {
            "id": f"more-tensors/{dtype}",
            "setup": "main",
            "request": predict("line", {"x": _tensor(f"DT_{dtype}", 1)}),
            "response": said("INVALID_ARGUMENT", _EXPECTS.format(dtype.lower())),
        }
    yield {
        "id": "more-tensors/resource",
        "setup": "main",
        "request": predict("line", {"x": {"dtype": "DT_RESOURCE", "tensor_shape": {}}}),
        "response": said("INVALID_ARGUMENT", _RESOURCE),
    }
    # What is cut within a character is not UTF-8, and grpcio shows such a text as Latin-1.
    cut = f"Servable not found for request: Latest({'é' * 600}".encode()[:1024]
    yield {
        "id": "more-tensors/message-cut-within-a-character",
        "setup": "main",
        "request": predict("é" * 600, {}),
        "response": said("NOT_FOUND", f"{cut.decode('latin-1')}...TRUNCATED"),
    }


def _bodies() -> Iterator[dict[str, Any]]:
    twice = '{"instances": [{"x": 1, "x": 2}, {"x": 3}]}'
    sizes = '{"instances": [{"x": 1, "x": [1, 2]}]}'
    failed = "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: "
    numbers = "1.8e308", "-2e308", "123456789012345678901e300", f"1{'0' * 300}e9"
    double = '{{"signature_name": "double", "inputs": [{}]}}'
    infinite = '{{\n    "outputs": [\n        {}\n    ]\n}}'
    too_big = "JSON Parse error: Number too big to be stored in double. at offset: 40"
    refused = '{{\n    "error": "{}"\n}}'
    for name, model, body, status, text in (
        ("a-name-twice", "line", twice, 200, '{\n    "predictions": [4.5, 5.0\n    ]\n}'),
        (
            "a-name-twice-of-two-sizes",
            "line",
            sizes,
            400,
            refused.format(f"{failed}Expecting tensor size: 1 but got: 2"),
        ),
        *(
            (
                f"overflow-{number[:12]}",
                "types",
                double.format(number),
                200,
                infinite.format("-Infinity" if number[0] == "-" else "Infinity"),
            )
            for number in numbers
        ),
        ("exponent-too-big", "types", double.format("1e309"), 400, refused.format(too_big)),
    ):
        yield {
            "id": f"more-bodies/{name}",
            "setup": "main",
            "request": post(model, body),
            "compare": "text",
            "response": {"status": status, "type": "application/json", "body": text},
        }


# Errors that quote bytes which are no UTF-8


def _quotes() -> Iterator[dict[str, Any]]:
    # The first bytes of a PNG, where a serialized tf.Example is wanted.
    png = _base64(b"\x89PNG")
    body = f'{{"signature_name": "classify", "inputs": [{{"b64": "{png}"}}]}}'
    tensor = _tensor("DT_STRING", 1, string_val=[png])
    text = "Could not parse example input, value: '\udc89PNG'"
    yield {
        "id": "more-quotes/over-rest",
        "setup": "main",
        "request": post("mnist", body),
        "compare": "prefix",
        "response": {
            "status": 400,
            "type": "application/json",
            "body": f'{{\n    "error": "{text}',
        },
    }
    yield {
        "id": "more-quotes/over-grpc",
        "setup": "main",
        "request": predict("mnist", {"inputs": tensor}, "classify"),
        "compare": "any",
        "response": said("INVALID_ARGUMENT", ""),
    }


CASES: list[dict[str, Any]] = [*_printing(), *_splitting(), *_tensors(), *_bodies(), *_quotes()]


# Labels and numbers in a configuration that a server starts with, and starts with again


def _labelled(label: int, *versions: int) -> str:
    numbers = " ".join(f"versions: {number}" for number in versions)
    return f"""model_config_list {{ config {{
      name: "line" base_path: "{{work}}/line" model_platform: "tensorflow"
      model_version_policy {{ specific {{ {numbers} }} }}
      version_labels {{ key: "stable" value: {label} }}
    }} }}"""


def _by_label(*, version: int, until: bool = False) -> dict[str, Any]:
    answer = {1: "2.0", 2: "3.0"}[version]
    body = '{\n    "predictions": [' + answer + "\n    ]\n}"
    path = "/v1/models/line/labels/stable:predict"
    return {
        "do": "probe",
        "request": {"verb": "POST", "path": path, "body": '{"instances":[0.0]}'},
        "compare": "text",
        "response": {"status": 200, "type": "application/json", "body": body},
        **({"until": True} if until else {}),
    }


def _restarts() -> Iterator[dict[str, Any]]:
    flags = {
        "model_config_file": "{work}/models.config",
        "model_config_file_poll_wait_seconds": "1",
        "allow_version_labels_for_unavailable_models": "true",
        "num_load_threads": "2",
    }
    publish = [{"do": "publish", "from": f"line/{n}", "to": f"line/{n}"} for n in (1, 2)]
    both = {"do": "states", "model": "line", "states": {"1": "AVAILABLE", "2": "AVAILABLE"}}
    start: dict[str, Any] = {"do": "start", "flags": flags}

    def write(label: int, *versions: int) -> dict[str, Any]:
        return {"do": "write", "file": "models.config", "text": _labelled(label, *versions)}

    yield {
        "id": "more-restarts/labels-and-numbers-outlive-a-kill",
        "steps": [
            *publish,
            write(1, 1, 2),
            *(start, both, _by_label(version=1)),
            *({"do": "kill"}, start, both, _by_label(version=1)),
            *(write(2, 1, 2), _by_label(version=2, until=True)),
            *({"do": "kill"}, start, both, _by_label(version=2)),
        ],
    }
    yield {
        "id": "more-restarts/a-label-does-not-move-to-what-is-not-loaded-but-at-a-start",
        "steps": [
            *publish,
            write(1, 1),
            *(start, {"do": "states", "model": "line", "states": {"1": "AVAILABLE"}}),
            write(2, 2),
            {"do": "keeps", "model": "line", "states": {"1": "AVAILABLE"}, "seconds": 3},
            _by_label(version=1),
            *({"do": "kill"}, start),
            {"do": "states", "model": "line", "states": {"2": "AVAILABLE"}},
            _by_label(version=2),
        ],
    }


STORIES: list[dict[str, Any]] = [*_restarts()]
