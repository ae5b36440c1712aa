from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2

from deploy.local.errors import ServingError
from deploy.local.handlers import inference
from deploy.local.handlers.classification import CLASSIFY, REGRESS, Classes


def signature(tensor: str, outputs: dict[str, str]) -> meta_graph_pb2.SignatureDef:
    made = meta_graph_pb2.SignatureDef()
    made.inputs["inputs"].name = tensor
    for alias, name in outputs.items():
        made.outputs[alias].name = name
        made.outputs[alias].dtype = types_pb2.DT_FLOAT
    return made


SIGNATURES = {
    "serving_default": signature("in:0", {"classes": "text:0", "scores": "grid:0"}),
    "one_tensor": signature("in:0", {"classes": "text:0", "scores": "text:0"}),
    "one_unknown": signature("in:0", {"scores": "grid:0", "spare": "gone:0"}),
    "no_classes": signature("in:0", {"scores": "empty:0"}),
    "scalar": signature("in:0", {"outputs": "scalar:0"}),
    "regress": signature("in:0", {"outputs": "column:0"}),
    "elsewhere": signature("other:0", {"outputs": "column:0"}),
}
TENSORS = {
    "text:0": np.array([[b"a", b"\xff"]], object),
    "grid:0": np.array([[0.25, 0.5]], np.float32),
    "empty:0": np.zeros((1, 0), np.float32),
    "scalar:0": np.float32(1).reshape(()),
    "column:0": np.array([[7]], np.float32),
}


class Fake:
    """A version whose tensors are known beforehand."""

    name = "m"
    signatures: Mapping[str, Any] = SIGNATURES

    def run(self, feeds: Any, fetches: Any, _timeout_ms: int) -> list[Any]:
        assert [array.tolist() for array in feeds.values()] == [[b"one"]]
        return [TENSORS[name] for name in fetches]


FAKE: Any = Fake()


def classify(name: str) -> Classes:
    result = inference.run(FAKE, CLASSIFY, name, [b"one"])
    assert isinstance(result, Classes)
    return result


def run_tasks(*names: str, method: str = "tensorflow/serving/regress") -> Any:
    tasks = [inference_pb2.InferenceTask(method_name=method) for _ in names]
    for task, name in zip(tasks, names, strict=True):
        task.model_spec.name = "m"
        task.model_spec.signature_name = name
    return inference.run_tasks(FAKE, tasks, [b"one"])


def test_of_two_aliases_for_one_tensor_the_first_counts() -> None:
    result = classify("one_tensor")
    assert (result.labels[0, 0], result.scores.tolist()) == (b"a", [[0, 0]])


def test_a_second_output_of_another_name_is_not_fetched() -> None:
    assert classify("one_unknown").labels.tolist() == [[b"", b""]]


def test_no_classes_at_all() -> None:
    assert classify("no_classes").labels.shape == (1, 0)


def test_labels_that_are_no_utf8_are_sent_as_text() -> None:
    message = classification_pb2.ClassificationResult()
    CLASSIFY.fill(classify(""), message)
    assert [row.label for row in message.classifications[0].classes] == ["a", "\ufffd"]


def test_a_scalar_is_no_regression() -> None:
    with pytest.raises(ServingError, match=r"but got \[\]$"):
        inference.run(FAKE, REGRESS, "scalar", [b"one"])


def test_tasks_must_share_their_input() -> None:
    assert [result.tolist() for result in run_tasks("regress")] == [[7]]
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: Input tensor must be the same"):
        run_tasks("regress", "elsewhere")


def test_tasks_are_classify_or_regress() -> None:
    with pytest.raises(ServingError, match=r"^UNIMPLEMENTED: Unsupported signature method_name: x"):
        run_tasks("regress", method="x")


def test_no_tasks() -> None:
    with pytest.raises(ServingError, match="Must specify at least one target"):
        run_tasks()
