from typing import Any

import pytest

from deploy.local import flags


def test_defaults_are_those_of_the_real_server() -> None:
    parsed, unknown = flags.parse([])
    assert unknown == []
    assert (parsed.port, parsed.rest_api_port, parsed.model_name) == (8500, 0, "default")
    assert (parsed.max_num_load_retries, parsed.file_system_poll_wait_seconds) == (5, 1)
    assert parsed.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=9000", "port", 9000),
        ("--file_system_poll_wait_seconds=-1", "file_system_poll_wait_seconds", -1),
        ("--model_base_path=/a=b c", "model_base_path", "/a=b c"),
        ("--model_name=", "model_name", ""),
        ("--enable_model_warmup=false", "enable_model_warmup", False),
        ("--rest_api_enable_cors_support", "rest_api_enable_cors_support", True),
        ("--enable_batching=True", "enable_batching", True),
        ("--enable_batching=1", "enable_batching", True),
        ("--enable_model_warmup=0", "enable_model_warmup", False),
        ("--model_name=a_1 ", "model_name", "a_1 "),
        ("--drain_seconds=0.5", "drain_seconds", 0.5),
    ],
)
def test_values(argument: str, name: str, value: Any) -> None:
    parsed, unknown = flags.parse([argument])
    assert getattr(parsed, name) == value
    assert unknown == []


def test_the_last_of_several_wins() -> None:
    assert flags.parse(["--port=1", "--port=2"])[0].port == 2


@pytest.mark.parametrize("argument", ["--no_such_flag=1", "port=1", "-port=1", "x", "--port", "--"])
def test_what_is_no_flag_is_returned(argument: str) -> None:
    assert flags.parse([argument, "--port=3"])[1] == [argument]


def test_a_value_after_a_blank_is_not_recognised() -> None:
    parsed, unknown = flags.parse(["--model_name", "mnist"])
    assert parsed.model_name == "default"
    assert unknown == ["--model_name", "mnist"]


@pytest.mark.parametrize(
    "argument",
    [
        "--port=x",
        "--port=",
        "--port=1.5",
        "--port=8_0",
        "--port=80 ",
        "--version=yes",
        "--version=",
    ],
)
def test_an_unreadable_value_is_refused(argument: str) -> None:
    with pytest.raises(flags.FlagError, match=r"Couldn't interpret value .* for flag "):
        flags.parse([argument])


def test_flags_without_effect_are_named_when_set() -> None:
    assert flags.without_effect(flags.parse(["--xla_cpu_compilation_enabled", "--port=1"])[0]) == [
        "xla_cpu_compilation_enabled"
    ]


def test_usage_lists_every_flag_once() -> None:
    lines = flags.usage().splitlines()
    assert sum(line.startswith("\t--model_name=default\tstring\t") for line in lines) == 1
    assert len({line.split("=")[0] for line in lines}) == len(lines)


@pytest.mark.parametrize(
    "argument",
    [
        "--port=65536",
        "--rest_api_port=-1",
        "--grpc_max_threads=0",
        "--rest_api_num_threads=-1",
        "--tensorflow_intra_op_parallelism=-5",
    ],
)
def test_values_that_would_end_elsewhere_are_refused(argument: str) -> None:
    with pytest.raises(flags.FlagError, match="lies outside"):
        flags.parse([argument])
