"""What the server counts and times, under the real server's names; `prometheus` prints it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from deploy.local.errors import Code, ServingError, as_unicode
from deploy.local.prometheus import Counter, Histogram, exponential

_MICROSECONDS = exponential(10, 1.8, 33)
_ROWS = exponential(1, 2, 14)

request_count = Counter("serving:request_count", ["model_name", "status"])
request_latency = Histogram(
    "serving:request_latency", ["model_name", "API", "entrypoint"], _MICROSECONDS
)
runtime_latency = Histogram(
    "serving:runtime_latency", ["model_name", "API", "runtime"], _MICROSECONDS
)
example_counts = Histogram("serving:request_example_counts", ["model"], exponential(1, 2, 15))
example_count_total = Counter("serving:request_example_count_total", ["model"])
warmup_latency = Histogram("serving:model_warmup_latency", ["model_path", "status"], _MICROSECONDS)
warmup_records_read = Counter("serving:model_warmup_records_read", ["model_path", "status"])
queuing_latency = Histogram(
    "serving:batching_session:queuing_latency", ["thread_pool_name"], exponential(100, 1.2, 52)
)
wrapped_run_count = Counter("serving:batching_session:wrapped_run_count")
padding_size = Histogram("serving:batching_session:padding_size", ["execution_batch_size"], _ROWS)
input_batch_size = Histogram("serving:batching_session:input_batch_size", [], _ROWS)
processed_batch_size = Histogram("serving:batching_session:processed_batch_size", [], _ROWS)
load_attempt_count = Counter("cc:saved_model:load_attempt_count", ["model_path", "status"])
load_latency = Counter("cc:saved_model:load_latency", ["model_path"])


def microseconds_since(start: float) -> int:
    """Whole microseconds since `time.perf_counter()` said `start`."""
    return int((time.perf_counter() - start) * 1e6)


@contextlib.contextmanager
def request(model: str, api: str, entrypoint: str) -> Iterator[None]:
    """Count the request that is answered within the block; time it if it succeeds."""
    start, status = time.perf_counter(), Code.INTERNAL
    try:
        yield
        status = Code.OK
    except ServingError as error:
        status = error.code
        raise
    finally:
        request_count.increment(model_name=model, status=status.name)
    request_latency.observe(
        microseconds_since(start), model_name=model, API=api, entrypoint=entrypoint
    )


@contextlib.contextmanager
def runtime(model: str, api: str) -> Iterator[None]:
    """Time the run of a graph that happens within the block, unless it fails."""
    start = time.perf_counter()
    yield
    runtime_latency.observe(microseconds_since(start), model_name=model, API=api, runtime="TF1")


@contextlib.contextmanager
def load(path: Path) -> Iterator[None]:
    """Count and time the load of a SavedModel that happens within the block."""
    start, status = time.perf_counter(), "fail"
    try:
        yield
        status = "success"
    finally:
        load_attempt_count.increment(model_path=str(path), status=status)
        load_latency.increment(microseconds_since(start), model_path=str(path))


@contextlib.contextmanager
def warmup(path: Path, records: Callable[[], int]) -> Iterator[None]:
    """Time the warm-up that happens within the block; `records` says how many it has read."""
    start, status = time.perf_counter(), "OK"
    try:
        yield
    except ServingError as error:
        status = as_unicode(str(error))
        raise
    finally:
        labels = {"model_path": str(path), "status": status}
        warmup_latency.observe(microseconds_since(start), **labels)
        warmup_records_read.increment(records(), **labels)
