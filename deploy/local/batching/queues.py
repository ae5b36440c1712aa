"""Queues in which runs wait to be merged, and the threads that take batches out of them.

The rules are those of TensorFlow's SharedBatchScheduler.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping

from deploy.local.batching.limits import Limits
from deploy.local.errors import Code, ServingError, invalid
from deploy.local.tensors import Array

_FULL = "The batch scheduling queue to which this task was submitted is full;"


@dataclasses.dataclass(eq=False)
class Task:
    """One run, or a part of one, that waits for its batch.

    Attributes:
        feeds: arrays by tensor name.
        rows: the first dimension of each of them.
        enqueued: when the run was asked for, on the monotonic clock.
        deadline: when the caller stops waiting.
        answer: arrays by the names of the tensors fetched, or what went wrong.
    """

    feeds: Mapping[str, Array]
    rows: int
    enqueued: float
    deadline: float = math.inf
    answer: concurrent.futures.Future[dict[str, Array]] = dataclasses.field(
        default_factory=concurrent.futures.Future
    )

    def parts(self, first: int, most: int) -> list["Task"]:
        """The same rows in several tasks: `first` of them, if that is any, then `most` in each."""
        starts = [*([0] if first else []), *range(first, self.rows, most)]
        return [
            Task(
                {name: array[start:end] for name, array in self.feeds.items()},
                end - start,
                self.enqueued,
                self.deadline,
            )
            for start, end in itertools.pairwise([*starts, self.rows])
        ]


class Queue:
    """Batches of tasks with the same inputs and outputs; used under the scheduler's lock.

    Args:
        limits: its limits.
        process: called with each batch by the thread that took it; never raises.
    """

    def __init__(self, limits: Limits, process: Callable[[list[Task]], None]) -> None:
        self.process = process
        self._limits = limits
        # The last one is open: it takes in tasks.
        self._batches: collections.deque[list[Task]] = collections.deque([[]])
        self._open_rows = 0

    def add(self, task: Task) -> list[Task]:
        """Take in a task, cut into parts if need be.

        Returns:
            The tasks whose answers make up that of the task.

        Raises:
            ServingError: the task is too large, or the queue is full.
        """
        limit, waiting = self._limits, len(self._batches)
        free = limit.batch_rows - self._open_rows
        capacity = (limit.batches - waiting) * limit.batch_rows + free
        if task.rows > limit.task_rows:
            raise invalid(
                f"Task size {task.rows} is larger than maximum input batch size {limit.task_rows}"
            )
        if limit.split and task.rows > capacity:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{_FULL} task size is {task.rows} but scheduling capacity is only {capacity}"
                f" (num_enqueued_batches={waiting}, max_enqueued_batches={limit.batches},"
                f" open_batch_size={self._open_rows}, max_execution_batch_size={limit.batch_rows})",
            )
        if not limit.split and task.rows > free and waiting >= limit.batches:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{_FULL} currently {waiting} batches enqueued and max_enqueued_batches is"
                f" {limit.batches}",
            )
        fits = task.rows <= free or not limit.split
        parts = [task] if fits else task.parts(free, limit.batch_rows)
        for part in parts:
            if self._open_rows + part.rows > limit.batch_rows:
                self._open()
            self._batches[-1].append(part)
            self._open_rows += part.rows
        return parts

    def _open(self) -> None:
        self._batches.append([])
        self._open_rows = 0

    def due(self, *, closed: bool = False) -> float:
        """When the first batch is to run; infinity: not before another task comes.

        With `closed`, no task waits for others.
        """
        if len(self._batches) > 1 or self._open_rows >= self._limits.batch_rows:
            return -math.inf
        if not self._open_rows:
            # Tasks without rows wait for one that has some, however long that takes.
            return math.inf
        if closed:
            return -math.inf
        return self._batches[0][0].enqueued + self._limits.wait_seconds

    def take(self) -> list[Task]:
        """Remove the first batch."""
        if len(self._batches) == 1:
            self._open()
        return self._batches.popleft()


class Scheduler:
    """Threads that run the batches of many queues in turn.

    Args:
        threads: how many batches run at a time.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {threads}")
        self._changed = threading.Condition()
        self._queues: collections.deque[Queue] = collections.deque()
        self._stopping = False
        self.threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def add(self, queue: Queue) -> None:
        """Run the batches of one more queue."""
        with self._changed:
            self._queues.append(queue)

    def remove(self, queue: Queue) -> None:
        """Forget a queue, which must be empty."""
        with self._changed:
            self._queues.remove(queue)

    def submit(self, queue: Queue, task: Task) -> list[Task]:
        """Put a task into a queue; returns and raises what `Queue.add` does."""
        with self._changed:
            if self._stopping:
                raise ServingError(Code.UNAVAILABLE, "The batch scheduler is stopping")
            parts = queue.add(task)
            self._changed.notify()
        return parts

    def stop(self) -> None:
        """Run the waiting batches, accept no new tasks, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _work(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Run one batch, False if there are none. Its memory is released before the next wait."""
        found = self._next()
        if found:
            queue, batch = found
            queue.process(batch)
        return found is not None

    def _next(self) -> tuple[Queue, list[Task]] | None:
        """Wait for a batch that is due; nothing: there will be none."""
        with self._changed:
            while True:
                now, first_due = time.monotonic(), math.inf
                for _ in range(len(self._queues)):
                    queue = self._queues[0]
                    self._queues.rotate(-1)
                    due = queue.due(closed=self._stopping)
                    if due <= now:
                        # Another thread must know when the next batch is due.
                        self._changed.notify()
                        return queue, queue.take()
                    first_due = min(first_due, due)
                if self._stopping:
                    return None
                self._changed.wait(min(first_due - now, threading.TIMEOUT_MAX))
