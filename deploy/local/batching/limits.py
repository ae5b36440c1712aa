"""How runs are batched: what a BatchingParameters message says, checked."""

from typing import Any, NamedTuple

from deploy.local.errors import invalid

PARAMETERS_FILE = "batching_params.pbtxt"  # of a version, in its folder


class Limits(NamedTuple):
    """How one model's runs are batched; the defaults are TensorFlow Serving's.

    Attributes:
        task_rows: rows that one run may have.
        batch_rows: rows that a batch may have.
        wait_seconds: how long a batch that is not full waits for more tasks.
        batches: how many batches may wait in a queue.
        sizes: the rows that a batch is padded to, ascending; none: no padding.
        pad: make inner dimensions equal instead of refusing batches where they differ.
        split: spread a run that does not fit into the open batch over several.
    """

    task_rows: int = 1000
    batch_rows: int = 1000
    wait_seconds: float = 0
    batches: int = 10
    sizes: tuple[int, ...] = ()
    pad: bool = False
    split: bool = False


def read(parameters: Any) -> Limits:
    """The limits that a BatchingParameters message sets.

    Raises:
        ServingError: INVALID_ARGUMENT, in the words of the real server.
    """
    split = parameters.enable_large_batch_splitting.value
    most = value_of(parameters, "max_batch_size", Limits().task_rows)
    in_batch = value_of(parameters, "max_execution_batch_size", most) if split else most
    micros = value_of(parameters, "batch_timeout_micros", 0)
    batches = value_of(parameters, "max_enqueued_batches", Limits().batches)
    sizes = tuple(parameters.allowed_batch_sizes)
    if sizes and sizes[-1] != most:
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size;"
            f" last entry was {sizes[-1]}; expected {most}"
        )
    if most < 1:
        raise invalid(f"input_batch_size_limit must be positive; was {most}")
    if micros < 0:
        raise invalid(f"batch_timeout_micros must be non-negative; was {micros}")
    if batches < (1 if split else 0):
        raise invalid(f"max_enqueued_batches must be positive; was {batches}")
    if not 0 < in_batch <= most:
        raise invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be"
            f" greater than or equal to max_execution_batch_size.1{most}{in_batch}"
        )
    pad = parameters.pad_variable_length_inputs
    return Limits(most, in_batch, micros / 1e6, max(1, batches), sizes, pad, split)


def value_of(parameters: Any, name: str, default: int) -> int:
    """A BatchingParameters field, or the default if it is not set."""
    value: int = getattr(parameters, name).value if parameters.HasField(name) else default
    return value
