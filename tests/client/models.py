"""Three models of a public tutorial's kind, and a server of them: `python -m deploy.local`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from deploy.runner import free_ports
from tests.forks import Fork
from tfserving_client import ServingClient
from tfserving_client.tensors import dtypes

v1 = tf.compat.v1


def _signature(
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    method: str = "predict",
    **defaults: Any,
) -> meta_graph_pb2.SignatureDef:
    made = meta_graph_pb2.SignatureDef(method_name=f"tensorflow/serving/{method}")
    for alias, tensor in inputs.items():
        made.inputs[alias].CopyFrom(v1.saved_model.build_tensor_info(tensor))
    for alias, tensor in outputs.items():
        made.outputs[alias].CopyFrom(v1.saved_model.build_tensor_info(tensor))
    for alias, value in defaults.items():
        made.defaults[alias].CopyFrom(tf.make_tensor_proto(value))
    return made


def save(folder: Path, build: Callable[[], dict[str, Any]]) -> None:
    """A version of what `build` makes: signatures by name."""
    with tf.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=build())
        builder.save()


def house() -> dict[str, Any]:
    """Mixed dtypes: rooms, area, city and a place of three coordinates → a price and a label."""
    rooms = v1.placeholder(tf.int64, [None], "rooms")
    area = v1.placeholder(tf.float32, [None], "area")
    city = v1.placeholder(tf.string, [None], "city")
    place = v1.placeholder(tf.float32, [None, 3], "place")
    factor = v1.placeholder(tf.float32, [], "factor")
    price = tf.cast(rooms, tf.float32) * 1000 + area * 10 + tf.reduce_sum(place, 1)
    label = tf.strings.join([city, tf.as_string(rooms)], ":")
    columns = {"rooms": rooms, "area": area, "city": city, "place": place}
    return {
        "serving_default": _signature(columns, {"price": price, "label": label}),
        "scaled": _signature(
            {"area": area, "factor": factor}, {"scaled": area * factor}, factor=3.0
        ),
        "total": _signature({"area": area}, {"total": tf.reduce_sum(area)}),
        "large": _signature({"area": area}, {"large": tf.boolean_mask(area, area > 10)}),
    }


def echo() -> dict[str, Any]:
    """What goes in comes out: a signature for each dtype, of any shape."""
    made = {}
    for row in dtypes.BY_NUMBER.values():
        x = v1.placeholder(tf.as_dtype(row.number), None, f"x{row.number}")
        name = "y_bytes" if row is dtypes.STRING else "y"
        made[row.name] = _signature({"x": x}, {name: tf.identity(x)})
    wide = v1.placeholder(tf.float32, [None, None], "wide")
    made["wide"] = _signature({"wide": wide}, {"wide": tf.identity(wide)})
    text = v1.placeholder(tf.string, [None], "text")
    made["text"] = _signature({"text": text}, {"text": tf.identity(text)})
    return made


def example() -> dict[str, Any]:
    """tf.Example with an age, a weight and a name → classes with scores, and a number."""
    text = v1.placeholder(tf.string, [None], "examples")
    features = tf.io.parse_example(
        text,
        {
            "age": tf.io.FixedLenFeature([], tf.int64),
            "weight": tf.io.FixedLenFeature([], tf.float32),
            "name": tf.io.FixedLenFeature([], tf.string, ""),
        },
    )
    share = features["weight"] / tf.cast(features["age"], tf.float32)
    scores = tf.stack([share, 1 - share], 1)
    classes = tf.stack([features["name"], tf.strings.upper(features["name"])], 1)
    return {
        "serving_default": _signature({"examples": text}, {"share": share}),
        "classify": _signature(
            {"inputs": text}, {"classes": classes, "scores": scores}, "classify"
        ),
        "regress": _signature({"inputs": text}, {"outputs": share}, "regress"),
    }


@dataclass(frozen=True)
class Served:
    """Where the models are served."""

    grpc: str
    rest: str
    folder: Path

    def url(self, scheme: str) -> str:
        return self.grpc if scheme == "grpc" else self.rest


@contextlib.contextmanager
def served(folder: Path, **models: Callable[[], dict[str, Any]]) -> Iterator[Served]:
    """Save version 1 of each model and serve them all."""
    rows = []
    for name, build in models.items():
        save(folder / name / "1", build)
        rows.append(
            f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(rows)} }}")
    port, rest_port = free_ports(2)
    flags = [f"--port={port}", f"--rest_api_port={rest_port}", f"--model_config_file={config}"]
    process = Fork("deploy.local", flags, folder / "log", CUDA_VISIBLE_DEVICES="-1")
    try:
        for name in models:
            with ServingClient(f"grpc://127.0.0.1:{port}", model=name) as client:
                client.wait_until_ready(timeout=180)
        yield Served(f"grpc://127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}", folder)
    finally:
        process.kill()
        process.wait()
