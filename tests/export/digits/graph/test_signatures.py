"""The saved model through the server's own loading path, never through tf.saved_model.load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from export.digits.checks import golden
from export.digits.data.sources import Dataset
from export.digits.graph import signatures
from export.digits.graph.preprocessing import normalise_files
from export.digits.training import network
from export.publication import golden as golden_file
from export.publication import warmup
from export.publication.serving_path import ServedModel

PARAMETERS = 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10

NAMES = {"serving_default", "predict_images", "packed", "encoded", "classify"}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return network.build()


@pytest.fixture(scope="module")
def folder(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "1"
    signatures.save(model, folder)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[ServedModel]:
    with ServedModel(folder) as served:
        yield served


def test_the_network_is_the_one(model: keras.Model) -> None:
    assert model.count_params() == PARAMETERS
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Flatten", "Dense", "Dense", "Dense"]
    shapes = [(layer.units, layer.activation.__name__) for layer in model.layers[1:]]
    assert shapes == [(128, "relu"), (64, "relu"), (10, "softmax")]


@pytest.mark.parametrize(
    ("name", "method", "inputs", "outputs"),
    [
        (
            "serving_default",
            "predict",
            {"images": (tf.uint8, [-1, 28, 28])},
            {"probabilities": (tf.float32, [-1, 10]), "digits": (tf.int64, [-1])},
        ),
        (
            "predict_images",
            "predict",
            {"images": (tf.float32, [-1, 784])},
            {"scores": (tf.float32, [-1, 10])},
        ),
        (
            "packed",
            "predict",
            {"images": (tf.string, [-1])},
            {"probabilities": (tf.float32, [-1, 10]), "digits": (tf.int64, [-1])},
        ),
        (
            "encoded",
            "predict",
            {"image_bytes": (tf.string, [-1])},
            {"probabilities": (tf.float32, [-1, 10]), "digits": (tf.int64, [-1])},
        ),
        (
            "classify",
            "classify",
            {"inputs": (tf.string, [-1])},
            {"classes": (tf.string, [-1, 10]), "scores": (tf.float32, [-1, 10])},
        ),
    ],
)
def test_aliases_dtypes_and_shapes(
    served: ServedModel,
    name: str,
    method: str,
    inputs: dict[str, tuple[tf.DType, list[int]]],
    outputs: dict[str, tuple[tf.DType, list[int]]],
) -> None:
    assert set(served.signatures) == NAMES
    definition = served.signatures[name]
    assert definition.method_name == f"tensorflow/serving/{method}"
    for infos, expected in ((definition.inputs, inputs), (definition.outputs, outputs)):
        found = {
            alias: (tf.as_dtype(info.dtype), [dim.size for dim in info.tensor_shape.dim])
            for alias, info in infos.items()
        }
        assert found == expected


def test_every_signature_answers_as_the_network(
    model: keras.Model, served: ServedModel, digits: Dataset
) -> None:
    images = digits.test.images[:20]
    inputs = signatures.inputs_for(images)
    seen = normalise_files(tf.constant(inputs["encoded"]))[0].numpy()
    of_images, of_files = (
        model.predict(pixels.astype(np.float32) / 255, verbose=0) for pixels in (images, seen)
    )
    answers = {name: served.run(name, values) for name, values in inputs.items()}
    for name, expected in [
        ("serving_default", of_images),
        ("packed", of_images),
        ("encoded", of_files),
    ]:
        np.testing.assert_allclose(answers[name]["probabilities"], expected, atol=1e-6)
        assert np.array_equal(answers[name]["digits"], expected.argmax(axis=1))
    np.testing.assert_allclose(answers["predict_images"]["scores"], of_images, atol=1e-6)
    scores, classes = (answers["classify"][name] for name in ("scores", "classes"))
    np.testing.assert_allclose(scores, -np.sort(-of_files, axis=1), atol=1e-6)
    by_class = np.take_along_axis(scores, classes.argsort(axis=1), axis=1)
    np.testing.assert_allclose(by_class, of_files, atol=1e-6)
    assert (np.sort(classes.astype(int)) == np.arange(10)).all()


def test_a_blank_page_is_any_digit_and_its_neighbours_keep_their_answers(
    served: ServedModel, digits: Dataset
) -> None:
    blank = np.full((28, 28), 255, np.uint8)
    images = np.stack([digits.test.images[0], blank, digits.test.images[1]])
    inputs = signatures.inputs_for(images)
    answers = served.run("encoded", inputs["encoded"])["probabilities"]
    np.testing.assert_allclose(answers[1], 0.1)
    alone = served.run("encoded", inputs["encoded"][::2])["probabilities"]
    np.testing.assert_allclose(answers[::2], alone, atol=1e-6)
    np.testing.assert_allclose(served.run("classify", inputs["classify"])["scores"][1], 0.1)


def test_every_signature_takes_an_empty_batch_as_the_server_allows(folder: Path) -> None:
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session, graph.as_default():
        meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        for name in ("serving_default", "packed", "encoded"):
            definition = meta.signature_def[name]
            ((_, source),) = definition.inputs.items()
            shape = [max(dim.size, 0) for dim in source.tensor_shape.dim]
            empty = np.zeros(shape, tf.as_dtype(source.dtype).as_numpy_dtype)
            answer = session.run(definition.outputs["digits"].name, {source.name: empty})
            assert answer.shape == (0,)


@pytest.mark.parametrize("n", [1, 2, 33, 300])
def test_packed_answers_as_serving_default_to_the_bit(
    served: ServedModel, digits: Dataset, n: int
) -> None:
    images = digits.test.images[:n]
    expected = served.run("serving_default", images)
    answers = served.run("packed", signatures.inputs_for(images)["packed"])
    assert set(answers) == set(expected)
    for alias, values in expected.items():
        assert answers[alias].dtype == values.dtype
        assert np.array_equal(answers[alias], values)


@pytest.mark.parametrize("length", [0, 783, 785, 1568])
def test_packed_refuses_another_length_and_names_the_first(
    served: ServedModel, length: int
) -> None:
    good, bad = bytes(784), bytes(length)
    for index, batch in ((0, [bad]), (0, [bad] * 3), (2, [good, good, bad, good, bytes(9)])):
        with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
            served.run("packed", np.array(batch, dtype=object))
        words = f"[image] [{index}] [has] [{length}] [bytes, not] [784]"
        assert words in refusal.value.message


def test_packed_refuses_lengths_that_only_add_up(served: ServedModel) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[image\] \[0\] \[has\] \[783\]"):
        served.run("packed", np.array([bytes(783), bytes(785)], dtype=object))


def test_the_weights_are_constants_stored_once(folder: Path, model: keras.Model) -> None:
    data = (folder / "saved_model.pb").read_bytes()
    assert b"VarHandleOp" not in data
    for layer in model.layers[1:]:
        kernel, _ = layer.get_weights()
        assert data.count(kernel.tobytes()) == 1


def test_the_trap_that_the_loader_catches(tmp_path: Path, model: keras.Model) -> None:
    class Wrapped(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28])])  # type: ignore[untyped-decorator]
        def call(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"scores": self.model(images)}

    wrapped = Wrapped()
    tf.saved_model.save(wrapped, str(tmp_path), signatures={"serving_default": wrapped.call})
    tf.saved_model.load(str(tmp_path))  # says nothing
    with (
        ServedModel(tmp_path) as served,
        pytest.raises(tf.errors.FailedPreconditionError, match="Could not find variable"),
    ):
        served.run("serving_default", np.zeros((1, 28, 28), np.float32))


def test_goldens_travel_and_hold(
    model: keras.Model, served: ServedModel, digits: Dataset, tmp_path: Path
) -> None:
    goldens = golden.choose(model, digits.test)
    assert np.bincount(goldens.named["labels"]).tolist() == [10] * 10
    differences = goldens.parity(served)
    assert set(differences) == NAMES
    assert max(differences.values()) <= 1e-5
    goldens.write(tmp_path)
    with np.load(tmp_path / golden_file.PATH, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], goldens.named["images"])
        assert list(arrays["files"]) == list(goldens.named["files"])
        answers = served.run("encoded", arrays["files"].astype(object))
        np.testing.assert_allclose(
            answers["probabilities"], arrays["file_probabilities"], atol=1e-5
        )


def test_parity_sees_another_network(served: ServedModel, digits: Dataset) -> None:
    keras.utils.set_random_seed(2)
    other = golden.choose(network.build(), digits.test)
    assert min(other.parity(served).values()) > 1e-3


def test_warm_up_has_every_signature_in_every_batch_size(
    model: keras.Model, served: ServedModel, digits: Dataset, tmp_path: Path
) -> None:
    warmup.write(tmp_path, golden.choose(model, digits.test).requests("mnist", served))
    seen = set()
    for record in tf.compat.v1.io.tf_record_iterator(str(tmp_path / warmup.PATH)):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("classify_log"):
            request = log.classify_log.request
            examples = request.input.example_list.examples
            values = np.array([example.SerializeToString() for example in examples], dtype=object)
        else:
            request = log.predict_log.request
            (tensor,) = request.inputs.values()
            values = tf.make_ndarray(tensor)
        assert request.model_spec.name == "mnist"
        served.run(request.model_spec.signature_name, values)
        seen.add((request.model_spec.signature_name, len(values)))
    assert seen == {(name, size) for name in served.signatures for size in warmup.BATCH_SIZES}
