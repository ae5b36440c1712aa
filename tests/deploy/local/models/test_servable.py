import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from deploy.local import tensors
from deploy.local.errors import Code, ServingError
from deploy.local.models import servable
from deploy.local.tensors import DTYPES


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A copy of line/1 to break."""
    return shutil.copytree(models / "line" / "1", tmp_path / "line" / "1")


def failure(folder: Path) -> ServingError:
    with pytest.raises(ServingError) as caught:
        servable.load("line", 1, folder)
    return caught.value


def test_runs_with_its_variables(models: Path) -> None:
    loaded = servable.load("line", 2, models / "line" / "2")
    assert (loaded.name, loaded.version, list(loaded.signatures)) == (
        "line",
        2,
        ["serving_default"],
    )
    (y,) = loaded.run({"x:0": np.array([1, 2], np.float32)}, ["y:0"])
    assert y.tolist() == [3.5, 4.0]
    loaded.close()


def test_more_dimensions_than_numpy_holds(models: Path) -> None:
    loaded = servable.load("line", 1, models / "line" / "1")
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1, 2])
    for size in [2] + [1] * 64:
        proto.tensor_shape.dim.add(size=size)
    for _ in range(2):
        (y,) = loaded.run({"x:0": tensors.decode(proto, "x")}, ["y:0"], 60_000)
        assert isinstance(y, tensors.Deep)
        assert (y.tolist(), y.sizes) == ([2.5, 3.0], (2, *[1] * 64))
    loaded.close()


def test_shapes_are_not_checked_but_types_are(models: Path) -> None:
    loaded = servable.load("line", 1, models / "line" / "1")
    (y,) = loaded.run({"x:0": np.array([[1, 2], [3, 4]], np.float32)}, ["y:0"])
    assert y.shape == (2, 2)
    for dtype, name in [("DT_DOUBLE", "double"), ("DT_QINT8", "qint8"), ("DT_VARIANT", "variant")]:
        array = np.zeros(1, DTYPES[getattr(types_pb2, dtype)].numpy)
        with pytest.raises(ServingError) as caught:
            loaded.run({"x:0": array}, ["y:0"])
        assert str(caught.value) == (
            f"INVALID_ARGUMENT: Expects arg[0] to be float but {name} is provided"
        )
    loaded.close()


def test_fetches_that_cannot_be(models: Path) -> None:
    loaded = servable.load("line", 1, models / "line" / "1")
    with pytest.raises(ServingError, match="Tried to fetch data for 'save/restore_all'"):
        loaded.run({}, ["save/restore_all"])
    with pytest.raises(ServingError, match="FetchOutputs node nosuch:0: not found"):
        loaded.run({}, ["nosuch:0"])
    loaded.close()


def test_a_run_can_time_out(models: Path, tmp_path: Path) -> None:
    loaded = servable.load("wait", 1, models / "wait" / "1")
    path = np.array(str(tmp_path / "never").encode(), object)
    signature = loaded.signatures["serving_default"]
    with pytest.raises(ServingError) as caught:
        loaded.run({"path:0": path}, [signature.outputs["done"].name], timeout_ms=50)
    assert str(caught.value) == "DEADLINE_EXCEEDED: Timed out waiting for notification"
    loaded.close()


def test_without_a_graph(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()
    error = failure(folder)
    assert error.code is Code.NOT_FOUND
    assert error.message == (
        "Specified file path does not appear to contain a SavedModel bundle (should have a file"
        f" called `saved_model.pb`)\nSpecified file path: {folder}"
    )


def test_a_cut_graph(folder: Path) -> None:
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:200])
    assert str(failure(folder)) == "OUT_OF_RANGE: Read less bytes than requested"


@pytest.mark.parametrize("garbage", [b"nonsense that is no protobuf at all", bytes(100)])
def test_a_graph_that_is_something_else(folder: Path, garbage: bytes) -> None:
    graph = folder / "saved_model.pb"
    graph.write_bytes(garbage)
    assert str(failure(folder)) == f"DATA_LOSS: Can't parse {graph} as binary proto"


def test_a_graph_as_text(folder: Path) -> None:
    graph = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    graph.unlink()
    text = graph.with_suffix(".pbtxt")
    text.write_text(text_format.MessageToString(model))
    servable.load("line", 1, folder).close()
    text.write_text("meta_graphs { nonsense }")
    assert str(failure(folder)) == f"DATA_LOSS: Can't parse {text} as text proto"


def _rewire(folder: Path, change: Callable[[Any], None]) -> None:
    graph = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    change(model.meta_graphs[0])
    graph.write_bytes(model.SerializeToString())


def _unknown_op(meta_graph: Any) -> None:
    meta_graph.graph_def.node.add(name="odd", op="NoSuchOp")


def _unknown_input(meta_graph: Any) -> None:
    meta_graph.graph_def.node.add(name="odd", op="NoOp", input=["^nowhere"])


def _unknown_target(meta_graph: Any) -> None:
    meta_graph.saver_def.restore_op_name = "nowhere"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_unknown_op, "NOT_FOUND: Op type not registered 'NoSuchOp' in binary running on "),
        (_unknown_input, "INVALID_ARGUMENT: Node 'odd': Unknown input node '^nowhere'"),
        (
            _unknown_target,
            "NOT_FOUND: PruneForTargets: Some target nodes not found: nowhere ",
        ),
    ],
)
def test_a_graph_that_cannot_be_imported_or_run(
    folder: Path, change: Callable[[Any], None], said: str
) -> None:
    _rewire(folder, change)
    assert str(failure(folder)).startswith(said)


def test_an_empty_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"")
    error = failure(folder)
    assert error.code is Code.NOT_FOUND
    assert error.message.startswith(
        "Could not find meta graph def matching supplied tags: { serve }."
    )


def test_without_variables_it_loads_and_every_run_fails(folder: Path) -> None:
    shutil.rmtree(folder / "variables")
    loaded = servable.load("line", 1, folder)
    with pytest.raises(ServingError, match="Could not find variable ") as caught:
        loaded.run({"x:0": np.array([1], np.float32)}, ["y:0"])
    assert caught.value.code is Code.FAILED_PRECONDITION
    loaded.close()


def test_without_the_variables_data(folder: Path) -> None:
    (data,) = (folder / "variables").glob("variables.data-*")
    data.unlink()
    error = failure(folder)
    assert error.code is Code.NOT_FOUND
    assert error.message.startswith(f"{data}; No such file or directory")


def test_a_cut_variables_index(folder: Path) -> None:
    index = folder / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:20])
    error = failure(folder)
    assert error.code is Code.DATA_LOSS
    assert error.message.startswith("file is too short to be an sstable")


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "5").write_text("x")
    with pytest.raises(ServingError) as caught:
        servable.load("line", 5, tmp_path / "5")
    assert str(caught.value) == (
        "FAILED_PRECONDITION: Error while attempting to reserve resources to load servable"
        f" {{name: line version: 5}}: {tmp_path}/5; Not a directory"
    )


def test_a_session_config_file_says_all_but_threads_and_memory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(
        "intra_op_parallelism_threads: 7 log_device_placement: true"
        " gpu_options { per_process_gpu_memory_fraction: 0.5 allow_growth: true }"
    )
    config = servable.session_config(
        intra_op=0, inter_op=0, both=3, gpu_fraction=0, file=str(tmp_path / "f")
    )
    assert config.log_device_placement
    assert config.gpu_options.allow_growth
    assert config.intra_op_parallelism_threads == config.inter_op_parallelism_threads == 3
    assert config.gpu_options.per_process_gpu_memory_fraction == 0
