"""Batching without a clock: threads are held at gates, and full batches need not wait."""

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from deploy.local import metrics
from deploy.local.batching import servable as batching
from deploy.local.batching.limits import PARAMETERS_FILE, Limits
from deploy.local.batching.queues import Queue, Scheduler, Task
from deploy.local.batching.servable import BatchedServable
from deploy.local.errors import ServingError
from deploy.local.flags import Flags
from deploy.local.models import servable
from deploy.local.tensors import Array

NEVER = 10_000.0


SECONDS = 60


Answer: TypeAlias = "concurrent.futures.Future[list[Array]]"


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


class Doubler:
    """A servable with y = 2x, and a total of all rows; it keeps what it was asked."""

    def __init__(self, answer: Callable[[Array], Array] = lambda x: x * 2) -> None:
        self.name, self.version = "doubler", 1
        self.signatures: dict[str, Any] = {}
        self.closed = False
        self.runs: list[tuple[list[float], list[str], int]] = []
        self._answer = answer

    def run(
        self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int = 0
    ) -> list[Array]:
        x = feeds["x"]
        self.runs.append((x.tolist(), list(fetches), timeout_ms))
        return [self._answer(x) if name == "y" else x for name in fetches]

    def close(self) -> None:
        self.closed = True


class Watched(Scheduler):
    """A scheduler of one thread that can be held, and that tells of each task it is given."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self._given = threading.Semaphore(0)
        self._callers = concurrent.futures.ThreadPoolExecutor(10)

    def submit(self, queue: Queue, task: Task) -> list[Task]:
        try:
            return super().submit(queue, task)
        finally:
            self._given.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block no batch is run."""
        here, go = threading.Event(), threading.Event()

        def hold(_batch: list[Task]) -> None:
            here.set()
            go.wait(SECONDS)

        plug = Queue(Limits(), hold)
        self.add(plug)
        super().submit(plug, Task({"x": np.arange(1)}, 1, 0))
        assert here.wait(SECONDS)
        try:
            yield
        finally:
            go.set()
            self.remove(plug)

    def ask(
        self, model: BatchedServable, x: Array, fetches: Sequence[str] = ("y",), timeout_ms: int = 0
    ) -> Answer:
        """Run in another thread; returns when the task is queued or refused."""
        answer = self._callers.submit(model.run, {"x": x}, fetches, timeout_ms)
        assert self._given.acquire(timeout=SECONDS)
        return answer

    def end(self) -> None:
        self.stop()
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        self._callers.shutdown()


@pytest.fixture
def scheduler() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.end()


def answer(future: Answer) -> list[Any]:
    return [array.tolist() for array in future.result(SECONDS)]


def refusal(future: Answer) -> str:
    with pytest.raises(ServingError) as caught:
        future.result(SECONDS)
    return str(caught.value)


def test_runs_are_merged_and_answered_in_order(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(), scheduler)
    with scheduler.held():
        first = scheduler.ask(model, floats(1, 2))
        second = scheduler.ask(model, floats(3))
        third = scheduler.ask(model, floats(4, 5))
    assert answer(first) == [[2, 4]]
    assert answer(second) == [[6]]
    assert answer(third) == [[8, 10]]
    assert inner.runs == [([1, 2, 3, 4, 5], ["y"], 0)]


def test_the_same_outputs_in_another_order_share_a_batch_others_do_not(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(), scheduler)
    with scheduler.held():
        both = scheduler.ask(model, floats(1), ["y", "x"])
        turned = scheduler.ask(model, floats(2), ["x", "y"])
        filtered = scheduler.ask(model, floats(3), ["y"])
    assert answer(both) == [[2], [1]]
    assert answer(turned) == [[2], [4]]
    assert answer(filtered) == [[6]]
    assert [rows for rows, _, _ in inner.runs] == [[1, 2], [3]]


def test_a_batch_is_padded_to_an_allowed_size(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(8, 8, sizes=(4, 8)), scheduler)
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1, 2)), scheduler.ask(model, floats(3, 4, 5))]
    assert [answer(each) for each in answers] == [[[2, 4]], [[6, 8, 10]]]
    assert inner.runs == [([1, 2, 3, 4, 5, 3, 3, 3], ["y"], 0)]


def test_a_large_run_is_split_and_joined(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(10, 3, split=True), scheduler)
    with scheduler.held():
        small = scheduler.ask(model, floats(0))
        large = scheduler.ask(model, floats(1, 2, 3, 4, 5, 6))
    assert answer(small) == [[0]]
    assert answer(large) == [[2, 4, 6, 8, 10, 12]]
    assert [rows for rows, _, _ in inner.runs] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_full_queue_refuses(scheduler: Watched) -> None:
    model = BatchedServable(Doubler(), Limits(2, 2, batches=1), scheduler)
    with scheduler.held():
        waiting = scheduler.ask(model, floats(1, 2))
        refused = scheduler.ask(model, floats(3))
        assert "UNAVAILABLE: The batch scheduling queue" in refusal(refused)
    assert answer(waiting) == [[2, 4]]


def test_a_batch_runs_with_the_longest_deadline(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(), scheduler)
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1), timeout_ms=ms) for ms in (200_000, 900_000)]
    assert [answer(each) for each in answers] == [[[2]], [[2]]]
    assert 200_000 < inner.runs[0][2] <= 900_000
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1), timeout_ms=ms) for ms in (200_000, 0)]
    assert [answer(each) for each in answers] == [[[2]], [[2]]]
    assert inner.runs[1][2] == 0


def test_a_batch_of_which_all_deadlines_have_passed(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(), scheduler)
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1), timeout_ms=1) for _ in range(2)]
        passed = time.monotonic() + 0.001
        while time.monotonic() <= passed:
            pass
    for each in answers:
        assert refusal(each) == (
            "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
        )
    assert inner.runs == []


def test_rows_none_waits_for_company(scheduler: Watched) -> None:
    model = BatchedServable(Doubler(), Limits(), scheduler)
    lonely = scheduler.ask(model, floats(), timeout_ms=1)
    assert refusal(lonely) == "DEADLINE_EXCEEDED: Timed out waiting for notification"
    waiting = scheduler.ask(model, floats())
    assert not waiting.done()
    assert answer(scheduler.ask(model, floats(1))) == [[2]]
    assert answer(waiting) == [[]]


def test_one_malformed_member_fails_its_neighbours_and_nobody_after(scheduler: Watched) -> None:
    model = BatchedServable(Doubler(), Limits(), scheduler)
    with scheduler.held():
        good = scheduler.ask(model, floats(1))
        bad = scheduler.ask(model, np.zeros(1))
    assert refusal(good) == refusal(bad)
    assert "INTERNAL: Tensor concat operation failed" in refusal(bad)
    assert answer(scheduler.ask(model, floats(1))) == [[2]]


def test_a_run_that_breaks_is_everybodys_answer(scheduler: Watched) -> None:
    def broken(_x: Array) -> Array:
        raise ZeroDivisionError

    model = BatchedServable(Doubler(broken), Limits(), scheduler)
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1)) for _ in range(2)]
    for each in answers:
        with pytest.raises(ZeroDivisionError):
            each.result(SECONDS)
    assert all(thread.is_alive() for thread in scheduler.threads)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            floats(1, 2),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension"
            " sizes of the input tensors",
        ),
    ],
)
def test_outputs_that_are_not_rows(scheduler: Watched, result: Array, message: str) -> None:
    model = BatchedServable(Doubler(lambda _: np.asarray(result)), Limits(), scheduler)
    assert refusal(scheduler.ask(model, floats(1))) == f"FAILED_PRECONDITION: {message}"


def test_an_output_of_the_padded_size_passes(scheduler: Watched) -> None:
    # A transposed square: what was padding is now a column of everybody's rows.
    inner = Doubler(lambda x: x.T)
    model = BatchedServable(inner, Limits(4, 4, sizes=(4,)), scheduler)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert answer(scheduler.ask(model, x)) == [[[0, 4, 0, 0], [1, 5, 1, 1]]]


def test_two_models_take_turns_on_one_thread(scheduler: Watched) -> None:
    order: list[str] = []

    def noting(name: str) -> BatchedServable:
        def noted(x: Array) -> Array:
            order.append(name)
            return x

        return BatchedServable(Doubler(noted), Limits(1, 1), scheduler)

    one, other = noting("one"), noting("other")
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1)) for model in (one, one, other, other)]
    for future in answers:
        answer(future)
    assert order in (["one", "other"] * 2, ["other", "one"] * 2)


def test_64_callers_get_their_own_answers() -> None:
    scheduler = Scheduler(threads=4)
    model = BatchedServable(Doubler(), Limits(16, 16, wait_seconds=0.001, batches=64), scheduler)
    start = threading.Barrier(64)

    def call(number: int) -> list[list[float]]:
        start.wait(SECONDS)
        return [model.run({"x": floats(number, i)}, ["y"])[0].tolist() for i in range(20)]

    with concurrent.futures.ThreadPoolExecutor(64) as callers:
        answers = list(callers.map(call, range(64)))
    assert answers == [[[2 * n, 2 * i] for i in range(20)] for n in range(64)]
    scheduler.stop()


def test_stopping_runs_what_waits_then_ends_the_threads() -> None:
    scheduler = Watched()
    model = BatchedServable(Doubler(), Limits(wait_seconds=NEVER), scheduler)
    waiting = scheduler.ask(model, floats(1))
    assert not waiting.done()
    scheduler.stop()
    assert answer(waiting) == [[2]]
    assert "UNAVAILABLE" in refusal(scheduler.ask(model, floats(1)))
    scheduler.end()


def test_closing_closes_the_model_and_leaves_the_threads_to_others(scheduler: Watched) -> None:
    inner = Doubler()
    model = BatchedServable(inner, Limits(), scheduler)
    answer(scheduler.ask(model, floats(1)))
    model.close()
    assert inner.closed
    assert answer(scheduler.ask(BatchedServable(Doubler(), Limits(), scheduler), floats(1))) == [
        [2]
    ]


def test_batches_are_counted(scheduler: Watched) -> None:
    def count() -> float:
        return sum(float(line.split()[-1]) for line in metrics.wrapped_run_count.lines()[1:])

    before = count()
    model = BatchedServable(Doubler(), Limits(8, 8, sizes=(8,)), scheduler)
    with scheduler.held():
        answers = [scheduler.ask(model, floats(1)) for _ in range(3)]
    for each in answers:
        answer(each)
    assert count() == before + 1
    assert any('execution_batch_size="8"' in line for line in metrics.padding_size.lines())


def test_without_the_flag_nothing_is_wrapped(tmp_path: Path) -> None:
    inner = Doubler()
    assert batching.wrapper(Flags())(inner, tmp_path) is inner


def test_parameters_without_the_flag_are_refused() -> None:
    with pytest.raises(ServingError) as caught:
        batching.wrapper(Flags(batching_parameters_file="/any"))
    assert str(caught.value) == (
        "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting"
        " server_options.enable_batching to true."
    )


def test_no_threads_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("num_batch_threads { value: 0 }")
    with pytest.raises(ServingError, match="num_batch_threads must be positive; was 0"):
        batching.wrapper(Flags(enable_batching=True, batching_parameters_file=str(file)))


def test_parameters_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 2 }")
    wrap = batching.wrapper(Flags(enable_batching=True, batching_parameters_file=str(file)))
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        wrap(Doubler(), tmp_path).run({"x": floats(1, 2, 3)}, ["y"])


def test_parameters_of_each_model(tmp_path: Path) -> None:
    wrap = batching.wrapper(Flags(enable_batching=True, enable_per_model_batching_parameters=True))
    inner = Doubler()
    assert wrap(inner, tmp_path) is inner
    file = tmp_path / PARAMETERS_FILE
    file.write_text("max_batch_size { value: 2 }")
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        wrap(inner, tmp_path).run({"x": floats(1, 2, 3)}, ["y"])
    file.write_text("max_batch_size: 2")
    with pytest.raises(ServingError, match=f"Invalid protobuf file: '{file}'"):
        wrap(inner, tmp_path)


def test_a_graph_answers_the_same_with_batching(scheduler: Watched, models: Path) -> None:
    graph = servable.load("line", 1, models / "line" / "1")
    x = floats(1, 2, 3)
    plain = graph.run({"x:0": x}, ["y:0"])[0].tolist()
    model = BatchedServable(graph, Limits(4, 4, sizes=(4,)), scheduler)
    assert model.run({"x:0": x}, ["y:0"])[0].tolist() == plain
    with pytest.raises(ServingError, match=r"Expects arg\[0\] to be float but double is provided"):
        model.run({"x:0": x.astype(np.float64)}, ["y:0"])
    model.close()
