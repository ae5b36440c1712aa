"""Merging runs that come at the same time into one, as TensorFlow Serving does.

Runs of one model with the same inputs and the same outputs wait in one queue until a batch
is full or its time is up. One pool of threads takes batches from the queues of all models
in turn. TensorFlow's own operation, `BatchFunction`, is no substitute: it has other texts,
knows no deadlines, and wants the graph as a function.
"""

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from deploy.local import metrics, text_files
from deploy.local.batching import limits as batch_limits
from deploy.local.batching.limits import Limits
from deploy.local.batching.merging import merge, rows_of
from deploy.local.batching.queues import Queue, Scheduler, Task
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.flags import Flags
from deploy.local.models.servable import Servable
from deploy.local.tensors import Array, Deep


class BatchedServable:
    """A servable whose runs are merged; it owns the one that it wraps."""

    def __init__(self, inner: Servable, limits: Limits, scheduler: Scheduler) -> None:
        self.name = inner.name
        self.version = inner.version
        self.signatures = inner.signatures
        self._inner = inner
        self._limits = limits
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._queues: dict[tuple[frozenset[str], frozenset[str]], Queue] = {}

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int = 0
    ) -> list[Array]:
        """Run the graph together with runs of the same tensors; see Servable.

        Raises:
            ServingError: what Servable raises, or a fault of this run or of the whole batch.
        """
        if any(isinstance(array, Deep) for array in feeds.values()):
            # numpy cannot merge these.
            return self._inner.run(feeds, fetches, timeout_ms)
        rows = rows_of(feeds)
        for _ in feeds:
            metrics.input_batch_size.observe(rows)
        now = time.monotonic()
        deadline = now + timeout_ms / 1000 if timeout_ms else math.inf
        task = Task(feeds, rows, now, deadline)
        parts = self._scheduler.submit(self._queue(feeds, fetches), task)
        if not rows:
            _wait_for_company(task, timeout_ms)
        for part in parts:
            # Wait for all, even if one fails: the caller keeps the model from being closed.
            part.answer.exception()
        answers = [part.answer.result() for part in parts]
        if len(answers) == 1:
            return [answers[0][name] for name in fetches]
        return [np.concatenate([answer[name] for answer in answers]) for name in fetches]

    def _queue(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> Queue:
        key = frozenset(feeds), frozenset(fetches)
        with self._lock:
            if key not in self._queues:
                names = sorted(key[1])
                self._queues[key] = Queue(self._limits, lambda batch: self._answer(batch, names))
                self._scheduler.add(self._queues[key])
            return self._queues[key]

    def _answer(self, batch: list[Task], fetches: list[str]) -> None:
        try:
            outputs = self._run(batch, fetches)
        except Exception as error:  # any error goes to the callers, not to this thread
            for task in batch:
                task.answer.set_exception(error)
            return
        for task, end in zip(batch, itertools.accumulate(t.rows for t in batch), strict=True):
            start = end - task.rows
            task.answer.set_result({name: array[start:end] for name, array in outputs.items()})

    def _run(self, batch: list[Task], fetches: list[str]) -> dict[str, Array]:
        """The outputs of a whole batch; rows of padding come last."""
        now, deadline = time.monotonic(), max(task.deadline for task in batch)
        for task in batch:
            micros = int((now - task.enqueued) * 1e6)
            metrics.queuing_latency.observe(micros, thread_pool_name="")
        if deadline <= now:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
        rows = sum(task.rows for task in batch)
        size = next((size for size in self._limits.sizes if size >= rows), rows)
        metrics.padding_size.observe(size - rows, execution_batch_size=str(size))
        metrics.processed_batch_size.observe(size)
        feeds = merge([task.feeds for task in batch], size - rows, pad=self._limits.pad)
        metrics.wrapped_run_count.increment()
        timeout_ms = 0 if deadline == math.inf else max(1, int((deadline - now) * 1000))
        outputs = dict(zip(fetches, self._inner.run(feeds, fetches, timeout_ms), strict=True))
        for array in outputs.values():
            if not array.ndim:
                message = "Batched output tensor has 0 dimensions"
                raise ServingError(Code.FAILED_PRECONDITION, message)
            if len(array) != size:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th"
                    " dimension sizes of the input tensors",
                )
        return outputs

    def close(self) -> None:
        """Close the wrapped servable; no run may be active."""
        for queue in self._queues.values():
            self._scheduler.remove(queue)
        self._inner.close()


def _wait_for_company(task: Task, timeout_ms: int) -> None:
    """Bound the wait of a task without rows, which alone makes no batch and stays in its queue."""
    try:
        task.answer.exception(timeout_ms / 1000 or None)
    except TimeoutError:
        message = "Timed out waiting for notification"
        raise ServingError(Code.DEADLINE_EXCEEDED, message) from None


def wrapper(flags: Flags) -> Callable[[Servable, Path], Servable]:
    """What to do with each servable, given the folder that it was loaded from.

    The function raises ServingError if the folder's own parameters are no good.

    Raises:
        ServingError: the flags contradict each other, or the parameters are no good.
    """
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise invalid(
                "server_options.batching_parameters_file is set without setting"
                " server_options.enable_batching to true."
            )
        return lambda servable, _folder: servable
    parameters = text_files.BatchingParameters()
    if flags.batching_parameters_file:
        text_files.read(Path(flags.batching_parameters_file), parameters)
    cpus = len(os.sched_getaffinity(0))
    scheduler = Scheduler(batch_limits.value_of(parameters, "num_batch_threads", cpus))

    def wrap(servable: Servable, folder: Path) -> Servable:
        if not flags.enable_per_model_batching_parameters:
            return BatchedServable(servable, batch_limits.read(parameters), scheduler)
        file = folder / batch_limits.PARAMETERS_FILE
        if not file.exists():
            return servable
        own = text_files.read(file, text_files.BatchingParameters())
        return BatchedServable(servable, batch_limits.read(own), scheduler)

    return wrap
