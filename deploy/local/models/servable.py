"""One loaded version of a model: a graph, a session, and its signatures.

Loading takes the steps of the C++ function that the real server calls (LoadSavedModel):
import the graph, run the restore operation if there are variables, run the init
operation. `tf.compat.v1.saved_model.loader.load` takes the same steps, but words
restore errors its own way and refuses a model without variables.index, which the server
loads; `tf.saved_model.load` works differently and accepts models that the
server cannot serve. Running goes to the session's C interface, past `Session.run`, which
checks shapes and rewrites errors where the server does neither.
"""

import ctypes
import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session as c_api
from tensorflow.python.client import session
from tensorflow.python.framework import errors_impl, importer, ops

from deploy.local import metrics, text_files
from deploy.local.errors import Code, ServingError, from_os, from_quoted, invalid
from deploy.local.models.bundle import read_meta_graph
from deploy.local.models.deep import DeepRuns
from deploy.local.tensors import DTYPES, Array, Deep, dtype_of

DEFAULT_SIGNATURE = "serving_default"
_INIT_OP = "__saved_model_init_op"
_ASSETS = "saved_model_assets"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_RESOURCE = (
    "Invalid resource type hash code: 0(name:  type: ). Perhaps a resource tensor was being"
    " provided as a feed? That is not currently allowed. Please file an issue at"
    " https://github.com/tensorflow/tensorflow/issues/new, ideally with a short code snippet that"
    " leads to this error message."
)
# glibc keeps what was freed, apart for each thread; other C libraries lack the function.
_give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _pad: 0)


class Servable(Protocol):
    """One loaded version of a model, ready to run; safe to use from many threads.

    Attributes:
        name: the model's name.
        version: the version number.
        signatures: signature name to SignatureDef, all that the SavedModel holds.
    """

    name: str
    version: int
    signatures: dict[str, meta_graph_pb2.SignatureDef]

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int = 0
    ) -> list[Array]:
        """One array per tensor name fetched; see LoadedGraph."""

    def close(self) -> None:
        """Free its resources; no run may be active."""


class LoadedGraph:
    """A servable that is a graph with its variables restored."""

    def __init__(
        self,
        name: str,
        version: int,
        meta_graph: meta_graph_pb2.MetaGraphDef,
        config: config_pb2.ConfigProto,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = dict(meta_graph.signature_def)
        self._graph = ops.Graph()
        with self._graph.as_default():
            importer.import_graph_def(meta_graph.graph_def, name="")
        self._session = session.Session(graph=self._graph, config=config)
        self._session._extend_graph()
        self._outputs: dict[str, Any] = {}
        self._deep = DeepRuns(self._session)

    def run(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        timeout_ms: int = 0,
        targets: Sequence[str] = (),
    ) -> list[Array]:
        """Run the graph once.

        Args:
            feeds: arrays by tensor name.
            fetches: names of the tensors wanted.
            timeout_ms: give up after so many milliseconds; 0: never.
            targets: names of operations to run besides.

        Returns:
            One array per fetch.

        Raises:
            ServingError: TensorFlow's own code and text.
        """
        try:
            self._check_types(feeds)
            if any(isinstance(array, Deep) for array in feeds.values()):
                return self._deep.run(feeds, fetches, timeout_ms)
            return self._run(
                {self._output(name): array for name, array in feeds.items()},
                [self._output(name) for name in fetches],
                [self._target(name) for name in targets],
                timeout_ms,
            )
        except (errors_impl.OpError, UnicodeDecodeError) as error:
            raise _from_tensorflow(error) from None

    def _check_types(self, feeds: Mapping[str, Array]) -> None:
        """The check that TensorFlow makes too, here also for types that numpy cannot pass to it."""
        given = {name: dtype_of(array) for name, array in feeds.items()}
        if types_pb2.DT_RESOURCE in given.values():
            raise invalid(_RESOURCE)
        for index, name in enumerate(sorted(given)):
            wanted = self._graph.get_tensor_by_name(name).dtype.as_datatype_enum
            if given[name] != wanted:
                raise invalid(
                    f"Expects arg[{index}] to be {DTYPES[wanted].name}"
                    f" but {DTYPES[given[name]].name} is provided"
                )

    def _run(
        self, feeds: dict[Any, Array], fetches: list[Any], targets: list[Any], timeout_ms: int
    ) -> list[Array]:
        # Without a limit the caller's thread runs the graph: handing a small one over costs more.
        pool = 0 if timeout_ms else -1
        limits = config_pb2.RunOptions(timeout_in_ms=timeout_ms, inter_op_thread_pool=pool)
        options = c_api.TF_NewBufferFromString(limits.SerializeToString())
        try:
            values = self._session._call_tf_sessionrun(options, feeds, fetches, targets, None)
            # Scalars come as plain objects.
            return [np.asarray(v, object if isinstance(v, bytes) else None) for v in values]
        finally:
            c_api.TF_DeleteBuffer(options)

    def _target(self, name: str) -> Any:
        try:
            return self._graph.get_operation_by_name(name)._c_op
        except KeyError:
            message = f"PruneForTargets: Some target nodes not found: {name} "
            raise ServingError(Code.NOT_FOUND, message) from None

    def _output(self, name: str) -> Any:
        """The C interface's handle of a tensor, given as `<operation>:<index>`."""
        if name not in self._outputs:
            node, _, index = name.partition(":")
            try:
                operation = self._graph.get_operation_by_name(node)
            except KeyError:
                message = f"FetchOutputs node {name}: not found"
                raise ServingError(Code.NOT_FOUND, message) from None
            if not operation.outputs:
                raise invalid(
                    f"Tried to fetch data for '{name}', which produces no output.  To run to a node"
                    f" but not fetch any data, pass '{name}' as an argument to the"
                    " 'target_node_names' argument of the Session::Run API."
                )
            handle = c_api.TF_Output()
            handle.oper, handle.index = operation._c_op, int(index or 0)
            self._outputs[name] = handle
        return self._outputs[name]

    def close(self) -> None:
        """Free the graph and its variables; no run may be active."""
        self._session.close()
        self._outputs.clear()
        del self._session, self._graph, self._deep
        # A graph and its operations refer to each other; a server with many switches cannot wait.
        gc.collect()
        _give_back(0)


def _from_tensorflow(error: errors_impl.OpError | UnicodeDecodeError) -> ServingError:
    if isinstance(error, UnicodeDecodeError):
        return from_quoted(error.object)
    return ServingError(Code(error.error_code), error.message)


def load(
    name: str,
    version: int,
    path: Path,
    tags: Sequence[str] = ("serve",),
    config: config_pb2.ConfigProto | None = None,
) -> LoadedGraph:
    """Load the SavedModel in a version folder.

    Raises:
        ServingError: the code and text that the real server reports for the same folder.
    """
    _walk(name, version, path)
    with metrics.load(path):
        return _load(name, version, path, tags, config)


def _load(
    name: str,
    version: int,
    path: Path,
    tags: Sequence[str],
    config: config_pb2.ConfigProto | None,
) -> LoadedGraph:
    meta_graph = read_meta_graph(path, tags)
    try:
        servable = LoadedGraph(name, version, meta_graph, config or config_pb2.ConfigProto())
    except (errors_impl.OpError, UnicodeDecodeError) as error:
        raise _from_tensorflow(error) from None
    except ValueError as error:  # what TensorFlow's Python makes of a graph that is not valid
        raise invalid(str(error)) from None
    try:
        _restore(servable, meta_graph, path)
    except ServingError:
        servable.close()
        raise
    return servable


def _walk(name: str, version: int, path: Path) -> None:
    """Look at the whole folder, as the real server does to estimate the memory needed."""
    folders = [path]
    try:
        while folders:
            folders += [entry for entry in folders.pop().iterdir() if entry.is_dir()]
    except OSError as error:
        problem = from_os(error)
        what = f"{{name: {name} version: {version}}}: {problem.message}"
        raise ServingError(
            problem.code,
            f"Error while attempting to reserve resources to load servable {what}",
        ) from None


def _text(path: Path) -> Array:
    return np.array(str(path).encode(), object)


def _restore(servable: LoadedGraph, meta_graph: meta_graph_pb2.MetaGraphDef, path: Path) -> None:
    """Fill the variables and run the init operation."""
    assets = {
        asset.tensor_info.name: _text(path / "assets" / asset.filename)
        for asset in _asset_files(meta_graph)
    }
    saver = meta_graph.saver_def
    variables = path / "variables" / "variables"
    # Without an index the real server takes a model for one without variables.
    if saver.restore_op_name and variables.with_suffix(".index").exists():
        feeds = {saver.filename_tensor_name: _text(variables), **assets}
        servable.run(feeds, [], targets=[saver.restore_op_name])
    if init := _init_op(meta_graph):
        servable.run(assets, [], targets=[init])


def _asset_files(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """Where the graph wants file names; old SavedModels keep the list in a collection."""
    if meta_graph.asset_file_def or _ASSETS not in meta_graph.collection_def:
        return list(meta_graph.asset_file_def)
    files = []
    for item in meta_graph.collection_def[_ASSETS].any_list.value:
        files.append(meta_graph_pb2.AssetFileDef())
        item.Unpack(files[-1])
    return files


def _init_op(meta_graph: meta_graph_pb2.MetaGraphDef) -> str:
    """The name of the operation that initialises tables and the like, or nothing."""
    if _INIT_OP in meta_graph.signature_def:
        return str(meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name)
    for key in _INIT_COLLECTIONS:
        if key in meta_graph.collection_def:
            return str(meta_graph.collection_def[key].node_list.value[0])
    return ""


def session_config(
    *, intra_op: int, inter_op: int, both: int, gpu_fraction: float, file: str = ""
) -> config_pb2.ConfigProto:
    """A session's configuration: from a text file if one is named, but threads and GPU memory not.

    Of these 0 leaves the choice to TensorFlow.

    Raises:
        ServingError: the file cannot be read or holds something else.
    """
    config = config_pb2.ConfigProto()
    if file:
        text_files.read(Path(file), config)
    if not (intra_op or inter_op):
        intra_op = inter_op = both
    config.intra_op_parallelism_threads = intra_op
    config.inter_op_parallelism_threads = inter_op
    config.gpu_options.per_process_gpu_memory_fraction = gpu_fraction
    return config
