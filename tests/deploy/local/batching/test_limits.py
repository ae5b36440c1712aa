import re

import pytest
from google.protobuf import text_format

from deploy.local import text_files
from deploy.local.batching import limits as batch_limits
from deploy.local.batching.limits import Limits
from deploy.local.errors import ServingError


def read(text: str) -> Limits:
    return batch_limits.read(text_format.Parse(text, text_files.BatchingParameters()))


def test_limits_have_the_real_servers_defaults() -> None:
    assert read("") == Limits(1000, 1000, 0, 10, (), False, False)


def test_limits_are_read() -> None:
    text = """
        max_batch_size { value: 8 } batch_timeout_micros { value: 2500 }
        max_enqueued_batches { value: 3 } num_batch_threads { value: 2 }
        thread_pool_name { value: "pool" } allowed_batch_sizes: 4 allowed_batch_sizes: 8
        pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 2 }
    """
    assert read(text) == Limits(8, 2, 0.0025, 3, (4, 8), True, True)


def test_execution_size_counts_only_when_splitting() -> None:
    assert read("max_batch_size { value: 8 } max_execution_batch_size { value: 2 }").batch_rows == 8


def test_room_for_no_batch_means_room_for_one() -> None:
    assert read("max_enqueued_batches { value: 0 }").batches == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 2",
            "Last entry in allowed_batch_sizes must match max_batch_size;"
            " last entry was 2; expected 4",
        ),
        (
            "allowed_batch_sizes: 2",
            "Last entry in allowed_batch_sizes must match max_batch_size;"
            " last entry was 2; expected 1000",
        ),
        ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0"),
        (
            "batch_timeout_micros { value: -1 }",
            "batch_timeout_micros must be non-negative; was -1",
        ),
        (
            "max_enqueued_batches { value: 0 } enable_large_batch_splitting { value: true }",
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 5 }"
            " enable_large_batch_splitting { value: true }",
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater"
            " than or equal to max_execution_batch_size.145",
        ),
    ],
)
def test_limits_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ServingError, match=f"^INVALID_ARGUMENT: {re.escape(message)}$"):
        read(text)
