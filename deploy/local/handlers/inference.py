"""Running Classify and Regress on serialized tf.Examples: one task, or several in one run."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import inference_pb2

from deploy.local import metrics
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.handlers.classification import INPUTS, KINDS, Kind, Result, check_signature
from deploy.local.models.servable import DEFAULT_SIGNATURE, Servable


class _Task(NamedTuple):
    """A kind, the tensor to feed, and the aliases by name of the tensors to fetch."""

    kind: Kind
    feed: str
    fetches: Mapping[str, str]


def run(
    servable: Servable,
    kind: Kind,
    signature_name: str,
    examples: Sequence[bytes],
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> Result:
    """Classify or Regress with one signature; an empty name means `serving_default`.

    Raises:
        ServingError: the server's code and text for the first check that fails.
    """
    name = signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    task = _plan(kind, servable.signatures[name], check_method)
    api = kind.method.rpartition("/")[2].capitalize()
    (result,) = _run(servable, [task], examples, timeout_ms, metrics.runtime(servable.name, api))
    return result


def run_tasks(
    servable: Servable,
    tasks: Sequence[inference_pb2.InferenceTask],
    examples: Sequence[bytes],
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> list[Result]:
    """MultiInference: InferenceTasks on the same examples, in one run.

    Raises:
        ServingError: the server's code and text for the first check that fails.
    """
    planned: dict[str, _Task] = {}
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in planned:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in KINDS:
            message = f"Unsupported signature method_name: {task.method_name}"
            raise ServingError(Code.UNIMPLEMENTED, message)
        planned[name] = _plan(KINDS[task.method_name], servable.signatures[name], check_method)
        if len({each.feed for each in planned.values()}) > 1:
            raise invalid("Input tensor must be the same for all Signatures.")
    results = _run(servable, list(planned.values()), examples, timeout_ms)
    metrics.example_counts.observe(len(examples), model=servable.name)
    metrics.example_count_total.increment(len(examples), model=servable.name)
    return results


def _plan(kind: Kind, signature: meta_graph_pb2.SignatureDef, check_method: bool) -> _Task:
    check_signature(kind, signature, check_method)
    fetches: dict[str, str] = {}
    for alias in kind.outputs:
        if alias in signature.outputs:
            # Of two aliases for one tensor the server sees the first only.
            fetches.setdefault(signature.outputs[alias].name, alias)
    return _Task(kind, signature.inputs[INPUTS].name, fetches)


def _run(
    servable: Servable,
    tasks: Sequence[_Task],
    examples: Sequence[bytes],
    timeout_ms: int,
    timer: contextlib.AbstractContextManager[None] | None = None,
) -> list[Result]:
    if not examples:
        raise invalid("Input is empty.")
    names = sorted({name for task in tasks for name in task.fetches})
    if not names:
        raise invalid("Must specify at least one target to fetch or execute.")
    feeds = {tasks[0].feed: np.array(examples, object)}
    with timer or contextlib.nullcontext():
        arrays = dict(zip(names, servable.run(feeds, names, timeout_ms), strict=True))
    return [
        kind.result({alias: arrays[name] for name, alias in fetches.items()}, len(examples))
        for kind, _, fetches in tasks
    ]
