import math

import numpy as np
import pytest

from deploy.local.batching.limits import Limits
from deploy.local.batching.queues import Queue, Task
from deploy.local.errors import ServingError


def task(rows: int, enqueued: float = 0) -> Task:
    return Task({"x": np.arange(rows)}, rows, enqueued)


def nothing(_batch: list[Task]) -> None:
    pass


def test_a_batch_is_due_when_its_first_task_has_waited() -> None:
    queue = Queue(Limits(wait_seconds=5), nothing)
    assert queue.due() == math.inf
    queue.add(task(1, enqueued=100))
    queue.add(task(1, enqueued=104))
    assert queue.due() == 105
    assert queue.due(closed=True) == -math.inf


def test_a_full_batch_is_due_at_once() -> None:
    queue = Queue(Limits(batch_rows=3, wait_seconds=5), nothing)
    queue.add(task(2))
    assert queue.due() == 5
    queue.add(task(1))
    assert queue.due() == -math.inf


def test_a_task_that_does_not_fit_closes_the_batch() -> None:
    queue = Queue(Limits(batch_rows=3, wait_seconds=5), nothing)
    first, second = task(2), task(2, enqueued=1)
    queue.add(first)
    queue.add(second)
    assert queue.due() == -math.inf
    assert queue.take() == [first]
    assert queue.due() == 6
    assert queue.take() == [second]
    assert queue.due() == math.inf


def test_tasks_without_rows_wait_for_one_with_rows() -> None:
    queue = Queue(Limits(wait_seconds=5), nothing)
    queue.add(task(0, enqueued=1))
    assert queue.due() == queue.due(closed=True) == math.inf
    queue.add(task(1, enqueued=20))
    assert queue.due() == 6


def test_too_large_a_task() -> None:
    queue = Queue(Limits(task_rows=4, batch_rows=4), nothing)
    message = "Task size 5 is larger than maximum input batch size 4"
    with pytest.raises(ServingError, match=f"^INVALID_ARGUMENT: {message}$"):
        queue.add(task(5))


def test_a_full_queue() -> None:
    queue = Queue(Limits(batch_rows=4, batches=2), nothing)
    for rows in (3, 3, 1):
        queue.add(task(rows))
    message = (
        "The batch scheduling queue to which this task was submitted is full;"
        " currently 2 batches enqueued and max_enqueued_batches is 2"
    )
    with pytest.raises(ServingError, match=f"^UNAVAILABLE: {message}$"):
        queue.add(task(1))
    queue.take()
    queue.add(task(1))


def test_a_task_is_split_to_fill_batches() -> None:
    queue = Queue(Limits(batch_rows=3, split=True), nothing)
    queue.add(task(1))
    parts = queue.add(task(6))
    assert [part.feeds["x"].tolist() for part in parts] == [[0, 1], [2, 3, 4], [5]]
    assert [[each.rows for each in queue.take()] for _ in range(3)] == [[1, 2], [3], [1]]


def test_a_task_is_split_after_a_full_batch() -> None:
    queue = Queue(Limits(batch_rows=3, split=True), nothing)
    queue.add(task(3))
    assert [part.rows for part in queue.add(task(4))] == [3, 1]


def test_a_full_queue_that_splits() -> None:
    queue = Queue(Limits(batch_rows=3, batches=2, split=True), nothing)
    queue.add(task(1))
    with pytest.raises(ServingError) as caught:
        queue.add(task(6))
    assert str(caught.value) == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task"
        " size is 6 but scheduling capacity is only 5 (num_enqueued_batches=1,"
        " max_enqueued_batches=2, open_batch_size=1, max_execution_batch_size=3)"
    )
    assert len(queue.add(task(5))) == 2
