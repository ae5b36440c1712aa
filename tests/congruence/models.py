"""Makes the SavedModels that the cases talk about, a few kilobytes each.

Weights are fixed and exact in binary, so every machine gets the same answers. Names of tensors
matter: metadata and errors show them.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

v1 = tf.compat.v1
METHODS = "tensorflow/serving/"
DTYPES = {
    **{name: tf.as_dtype(name) for name in ("double", "half", "bfloat16", "complex64")},
    **{name: tf.as_dtype(name) for name in ("int8", "int16", "int32", "int64", "bool", "string")},
    **{name: tf.as_dtype(name) for name in ("uint8", "uint16", "uint32", "uint64")},
    "float": tf.float32,
}

Tensors = dict[str, Any]
Signatures = dict[str, meta_graph_pb2.SignatureDef]
GRAPHS: dict[str, Callable[[], Signatures]] = {}


def make(root: Path) -> None:
    """Write every model as `root`/<name>/<version>."""
    for version in (1, 2, 3):
        _save(root / "line" / str(version), functools.partial(_line, version + 1))
    for name, graph in GRAPHS.items():
        _save(root / name / "1", graph)
    _save_functions(root / "mnist" / "1", Mnist())
    _save_functions(root / "slope" / "1", Slope())
    _rename_method(root / "mnist" / "1", "classify", METHODS + "classify")
    _spoil(root)


def _save(folder: Path, graph: Callable[[], Signatures]) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = graph()
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


def _model(graph: Callable[[], Signatures]) -> Callable[[], Signatures]:
    GRAPHS[graph.__name__] = graph
    return graph


def _x(name: str, dtype: Any = tf.float32, shape: Any = (None,)) -> Any:
    return v1.placeholder(dtype, shape, name=name)


def _sign(
    inputs: Tensors, outputs: Tensors, method: str = METHODS + "predict", **defaults: float
) -> meta_graph_pb2.SignatureDef:
    info = v1.saved_model.build_tensor_info
    return meta_graph_pb2.SignatureDef(
        inputs={alias: info(tensor) for alias, tensor in inputs.items()},
        outputs={alias: info(tensor) for alias, tensor in outputs.items()},
        method_name=method,
        defaults={k: tf.make_tensor_proto(np.float32(v)) for k, v in defaults.items()},
    )


def _line(offset: float) -> Signatures:
    """y = x / 2 + offset."""
    x = _x("x")
    slope, shift = (
        v1.get_variable(name, initializer=np.float32(value), use_resource=True)
        for name, value in (("slope", 0.5), ("shift", offset))
    )
    return {"serving_default": _sign({"x": x}, {"y": tf.add(x * slope, shift, name="y")})}


@_model
def pair() -> Signatures:
    """Two inputs of two types, two outputs."""
    a, b = _x("a"), _x("b", tf.int32)
    wide = tf.cast(b, tf.float32)
    total, product = tf.add(a, wide, name="total"), tf.multiply(a, wide, name="product")
    return {
        "serving_default": _sign({"a": a, "b": b}, {"sum": total, "product": product}),
        "one_out": _sign({"a": a, "b": b}, {"sum": total}),
        "one_in": _sign({"a": a}, {"twice": tf.multiply(a, 2.0, name="twice")}),
    }


@_model
def text() -> Signatures:
    """Strings in and out, under aliases that end in `_bytes` and others."""
    x, anything = _x("text", tf.string), _x("anything", tf.string, None)
    loud, same = tf.strings.join([x, "!"], name="loud"), tf.identity(x, name="same")
    return {
        "serving_default": _sign({"text": x}, {"loud": loud}),
        "as_bytes": _sign({"text": x}, {"copy_bytes": same}),
        "both": _sign({"text": x}, {"copy": same, "copy_bytes": same}),
        "length": _sign({"text": x}, {"length": tf.strings.length(x, name="length")}),
        "named_bytes": _sign({"image_bytes": x}, {"loud": loud}),
        "any_shape": _sign({"text": anything}, {"copy": tf.identity(anything, name="any")}),
    }


@_model
def types() -> Signatures:
    """What came in, for each type and any rank; and a float cast to types JSON cannot write."""
    signatures = {}
    for name, dtype in DTYPES.items():
        x = _x(f"x_{name}", dtype, None)
        signatures[name] = _sign({"x": x}, {"y": tf.identity(x, name=f"y_{name}")})
    x = _x("x_cast", shape=None)
    for name in ("half", "bfloat16", "uint16", "complex64"):
        narrow = tf.cast(x, DTYPES[name], name=f"to_{name}")
        signatures[f"to_{name}"] = _sign({"x": x}, {"y": narrow})
    return {**signatures, "serving_default": signatures["float"]}


@_model
def bits() -> Signatures:
    """Little-endian bytes to numbers: shows how numbers print, whatever the parser does."""
    raw = _x("raw", tf.string, None)
    return {
        name: _sign({"raw": raw}, {"y": tf.io.decode_raw(raw, DTYPES[name], name=f"y_{name}")})
        for name in ("float", "double", "int32", "int64")
    }


@_model
def shapes() -> Signatures:
    """Inputs and outputs that are not row by row."""
    x, z = _x("x", shape=None), _x("z", shape=())
    fixed, grid = _x("fixed", shape=(2, 3)), _x("grid", shape=(None, 2))
    rows = tf.reshape(x, [-1], name="flat")
    total = tf.reduce_sum(x, name="total")
    twice = tf.concat([rows, rows], 0, name="twice")
    product = tf.matmul(grid, tf.constant([[1.0], [10.0]]), name="matmul")
    return {
        "serving_default": _sign({"x": x}, {"total": total}),
        "total_and_rows": _sign({"x": x}, {"total": total, "rows": rows}),
        "unequal": _sign({"x": x}, {"rows": rows, "twice": twice}),
        "twice": _sign({"x": x}, {"twice": twice}),
        "scalar_in": _sign({"z": z}, {"next": tf.add(z, 1.0, name="next")}),
        "fixed": _sign({"x": fixed}, {"y": tf.multiply(fixed, 2.0, name="doubled")}),
        "no_inputs": _sign({}, {"constant": tf.constant([1.5, 2.5], name="constant")}),
        "first": _sign({"x": x}, {"first": tf.slice(rows, [0], [1], name="first")}),
        "matmul": _sign({"x": grid}, {"y": product}),
        "empty": _sign({"x": x}, {"none": tf.zeros([0, 2], name="none")}),
    }


@_model
def matrix() -> Signatures:
    """Inner dimensions that vary."""
    x, tokens = _x("x", shape=(None, None)), _x("tokens", tf.int64, (None, None))
    seen = {
        "last": tf.reduce_max(tokens, 1, name="last"),
        "shape": tf.shape(tokens, out_type=tf.int64, name="shape"),
    }
    return {
        "serving_default": _sign({"x": x}, {"row_sum": tf.reduce_sum(x, 1, name="row_sum")}),
        "transpose": _sign({"x": x}, {"turned": tf.transpose(x, name="turned")}),
        "tokens": _sign({"tokens": tokens}, seen),
        "cube": _sign({"x": x}, {"cube": tf.stack([x, -x], axis=2, name="cube")}),
    }


@_model
def examples() -> Signatures:
    """Signatures fed with tf.Example: right ones, and ones wrong in each way that matters."""
    inputs, other = _x("inputs", tf.string), _x("other", tf.string)
    feature = {
        "x": tf.io.FixedLenFeature([2], tf.float32, [0.0, 0.0]),
        "n": tf.io.FixedLenFeature([], tf.int64, 0),
        "s": tf.io.FixedLenFeature([], tf.string, "none"),
    }
    x, n, s = map(tf.io.parse_example(inputs, feature).__getitem__, "xns")
    total = tf.add(tf.reduce_sum(x, 1), tf.cast(n, tf.float32), name="total")
    column, scores = tf.expand_dims(total, 1, name="column"), tf.identity(x, name="scores")
    classes = tf.stack([s, tf.strings.join([s, "-other"])], 1, name="classes")
    good, fed = {"classes": classes, "scores": scores}, {"inputs": inputs}
    classified: dict[str, Tensors] = {
        "serving_default": good,
        "scores_only": {"scores": scores},
        "classes_only": {"classes": classes},
        "classify_three_outputs": {**good, "total": total},
        "classify_names": {"labels": classes},
        "classify_scores_type": {"scores": tf.cast(x, tf.float64, name="wide")},
        "classify_classes_type": {"classes": tf.stack([n, n], 1, name="numbers")},
        "classify_flat": {"scores": total},
        "classify_flat_classes": {"classes": tf.identity(s, name="single")},
        "classify_cut": {"scores": tf.slice(scores, [0, 0], [1, 2], name="cut")},
        "classify_widths": {"classes": tf.expand_dims(s, 1), "scores": scores},
    }
    regressed: dict[str, Tensors] = {
        "regress": {"outputs": column},
        "regress_flat": {"outputs": total},
        "regress_names": {"value": column},
        "regress_two_outputs": {"outputs": column, "total": total},
        "regress_type": {"outputs": tf.cast(n, tf.int32, name="narrow")},
        "regress_wide": {"outputs": scores},
        "regress_cut": {"outputs": tf.slice(total, [0], [1], name="short")},
    }
    classify, regress = METHODS + "classify", METHODS + "regress"
    both = {**fed, "other": other}
    return {
        **{name: _sign(fed, outputs, classify) for name, outputs in classified.items()},
        **{name: _sign(fed, outputs, regress) for name, outputs in regressed.items()},
        "classify_alias": _sign({"examples": inputs}, good, classify),
        "classify_two_inputs": _sign(both, good, classify),
        "regress_alias": _sign({"examples": inputs}, {"outputs": column}, regress),
        "predict": _sign(fed, {"total": total}),
        "no_method": _sign(fed, good, ""),
        "odd_method": _sign(fed, good, "my/method"),
    }


@_model
def defaults() -> Signatures:
    """Inputs that may be left out."""
    x, scale, shift = _x("x"), _x("scale", shape=()), _x("shift", shape=())
    inputs = {"x": x, "scale": scale, "shift": shift}
    outputs = {"y": tf.add(x * scale, shift, name="y")}
    return {
        "serving_default": _sign(inputs, outputs, scale=2, shift=10),
        "some": _sign(inputs, outputs, shift=100),
        "none": _sign(inputs, outputs),
    }


@_model
def stuck() -> Signatures:
    """Never answers: waits on a queue that nobody fills."""
    x = _x("x")
    queue = v1.FIFOQueue(1, [tf.float32], shapes=[[]], name="queue")
    return {"serving_default": _sign({"x": x}, {"y": tf.add(x, queue.dequeue(), name="y")})}


def _takes(**spec: tuple[list[int | None], Any]) -> Callable[[Any], Any]:
    ((name, (shape, dtype)),) = spec.items()
    return tf.function(input_signature=[tf.TensorSpec(shape, dtype, name)])  # type: ignore[no-any-return]


class Mnist(tf.Module):  # type: ignore[misc]
    """A digit classifier in TensorFlow 2's way; its weights sum exactly in float32."""

    def __init__(self) -> None:
        super().__init__()
        weights = np.arange(7840).reshape(784, 10) * 37 % 17 - 8
        self.weights = tf.Variable((weights / 4096).astype(np.float32), name="weights")
        self.bias = tf.Variable(np.linspace(-0.5, 0.625, 10, dtype=np.float32), name="bias")

    def _scores(self, flat: Any) -> Any:
        return tf.nn.softmax(flat @ self.weights + self.bias)

    def _answer(self, images: Any) -> Tensors:
        scores = self._scores(tf.cast(tf.reshape(images, [-1, 784]), tf.float32) / 255.0)
        return {"probabilities": scores, "digits": tf.argmax(scores, axis=1)}

    def _decoded(self, files: Any) -> Any:
        def decode(file: Any) -> Any:
            return tf.reshape(tf.io.decode_png(file, channels=1), [28, 28])

        return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec([28, 28], tf.uint8))

    @_takes(images=([None, 28, 28], tf.uint8))
    def serving_default(self, images: Any) -> Tensors:
        return self._answer(images)

    @_takes(images=([None, 784], tf.float32))
    def predict_images(self, images: Any) -> Tensors:
        return {"scores": self._scores(images)}

    @_takes(image_bytes=([None], tf.string))
    def encoded(self, image_bytes: Any) -> Tensors:
        return self._answer(self._decoded(image_bytes))

    @_takes(inputs=([None], tf.string))
    def classify(self, inputs: Any) -> Tensors:
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        files = tf.io.parse_example(inputs, feature)["image/encoded"]
        scores, order = tf.math.top_k(self._answer(self._decoded(files))["probabilities"], k=10)
        return {"classes": tf.strings.as_string(order), "scores": scores}


class Slope(tf.Module):  # type: ignore[misc]
    """y = a x + b in TensorFlow 2's way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = tf.Variable(0.25, name="a"), tf.Variable(1.0, name="b")

    @_takes(x=([None, 2], tf.float32))
    def serving_default(self, x: Any) -> Tensors:
        return {"y": x * self.a + self.b}


def _save_functions(folder: Path, module: Any) -> None:
    names = ("serving_default", "predict_images", "encoded", "classify")
    functions = {name: getattr(module, name) for name in names if hasattr(module, name)}
    tf.saved_model.save(module, str(folder), signatures=functions)


def _rename_method(folder: Path, name: str, method: str) -> None:
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].signature_def[name].method_name = method
    path.write_bytes(model.SerializeToString())


def _spoil(root: Path) -> None:
    """Copies of `line`, each wrong on disk in its own way, or warmed up."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(root / "line" / "1", root / name / "1"))

    def cut(path: Path, keep: int) -> None:
        path.write_bytes(path.read_bytes()[:keep])

    index, data = "variables/variables.index", "variables/variables.data-00000-of-00001"
    (copy("noindex") / index).unlink()
    (copy("nodata") / data).unlink()
    (copy("nograph") / "saved_model.pb").unlink()
    shutil.rmtree(copy("novariables") / "variables")
    cut(copy("shortdata") / data, -3)
    cut(copy("shortindex") / index, 20)
    cut(copy("emptygraph") / "saved_model.pb", 0)
    graph = copy("truncated") / "saved_model.pb"
    cut(graph, graph.stat().st_size // 2)
    (root / "nothing" / "1").mkdir(parents=True)
    (root / "noversions" / "not-a-number").mkdir(parents=True)

    good, other = _warm("x", 2), _warm("x", 1)
    session_run = prediction_log_pb2.PredictionLog()
    session_run.session_run_log.SetInParent()
    for name, records in {
        "warm": [good, other],
        "badwarm": [good, _warm("nosuch", 2)],
        "badwarm_signature": [_warm("x", 2, "nosuch")],
        "badwarm_record": [b"\x0a\x7ftoo short"],
        "badwarm_type": [session_run.SerializeToString()],
        "emptywarm": [],
    }.items():
        _write_warmup(copy(name), records)
    folder = copy("badwarm_file") / "assets.extra"
    folder.mkdir()
    (folder / "tf_serving_warmup_requests").write_bytes(b"this is not a TFRecord file at all")


def _warm(alias: str, rows: int, signature: str = "") -> bytes:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "warm", signature
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(np.array([1, 2][:rows], np.float32)))
    return log.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _write_warmup(folder: Path, records: Iterable[bytes]) -> None:
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
