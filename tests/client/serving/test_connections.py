"""Opening, sharing, losing and closing connections of both protocols, with threads and asyncio."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import (
    IMAGES,
    ONCE,
    Digits,
    ScriptedGrpc,
    Server,
    Shell,
    Start,
    grpc_status,
)
from tfserving_client import (
    CallError,
    Policy,
    Unreachable,
)

STATUS = b"""{"model_version_status": [
    {"version": "5", "state": "AVAILABLE", "status": {"error_message": ""}}]}"""


def test_a_closed_client_says_so(shell: Shell, scheme: str, closed_port: int) -> None:
    with shell(f"{scheme}://127.0.0.1:{closed_port}", policy=ONCE) as digits:
        digits.close()
        digits.close()
        for verb in (lambda: digits.classify(IMAGES), digits.status, digits.metadata):
            with pytest.raises(Unreachable, match="this client is closed"):
                verb()


SECRET = "key-8d1f"


def test_the_key_and_headers_are_sent_and_told_to_nobody_else(
    shell: Shell, server: Server, closed_port: int
) -> None:
    secrets: Any = {"api_key": SECRET, "headers": {"x-team": SECRET + "b"}, "policy": ONCE}
    server.see()
    with shell(server.url, **secrets) as digits:
        digits.classify(IMAGES)
        assert SECRET not in repr(digits) + str(digits)
    assert server.headers[-1]["x-api-key"] == SECRET
    assert server.headers[-1]["x-team"] == SECRET + "b"
    if isinstance(server, ScriptedGrpc):
        server.say(b"\xff")
    else:
        server.behaviour = lambda *_: (418, b"\xff")
    for url in (server.url, f"{server.url.split(':')[0]}://127.0.0.1:{closed_port}"):
        with shell(url, **secrets) as digits, pytest.raises(CallError) as failure:
            digits.classify(IMAGES)
        told = "".join(traceback.format_exception(failure.value)) + repr(failure.value)
        assert SECRET not in told


def test_unix_sockets(shell: Shell, start: Start, tmp_path: Path) -> None:
    with start(path=str(tmp_path / "socket")) as server:
        server.see()
        with shell(server.url, policy=ONCE) as digits:
            for _ in range(2):
                assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def test_several_targets_take_turns(shell: Shell, start: Start) -> None:
    with start() as one, start() as other:
        with shell(f"{one.url},127.0.0.1:{other.port}", policy=ONCE) as digits:
            one.see()
            other.see()
            for _ in range(4):
                digits.classify(IMAGES)
        assert (len(one.calls), len(other.calls)) == (2, 2)


def test_a_server_that_comes_back_on_its_port_is_found_again(
    shell: Shell, start: Start, closed_port: int
) -> None:
    with contextlib.ExitStack() as stack:
        with start(closed_port) as server:
            server.see()
            digits = shell(server.url, policy=ONCE)
            stack.callback(digits.__exit__)
            digits.classify(IMAGES)
        with pytest.raises(Unreachable):
            digits.classify(IMAGES)
        assert not digits.ready()
        again = stack.enter_context(start(closed_port))
        again.say(grpc_status(30) if isinstance(again, ScriptedGrpc) else STATUS)
        digits.wait_until_ready(timeout=30)
        again.see()
        assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def test_a_new_client_has_none_of_an_older_ones_troubles(
    shell: Shell, scheme: str, start: Start, closed_port: int
) -> None:
    """The older one waits before it connects again; the new one finds the server at once."""
    url = f"{scheme}://127.0.0.1:{closed_port}"
    with shell(url, policy=ONCE) as older:
        with pytest.raises(Unreachable):
            older.classify(IMAGES)
        with start(closed_port) as server, shell(url, policy=ONCE) as digits:
            server.see()
            assert digits.classify(IMAGES).digits.tolist() == [0, 6]


def _open_files() -> set[str]:
    links = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.add(str(link.readlink()))
    return {link for link in links if link.startswith("socket:")}


def _soon(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _ends_with_unreachable(digits: Digits, waiting: Callable[[], object], n: int = 3) -> None:
    """`n` calls are under way when the client is closed."""
    with ThreadPoolExecutor(n) as pool:
        calls = [pool.submit(digits.classify, IMAGES) for _ in range(n)]
        assert _soon(waiting)
        started = time.monotonic()
        digits.close()
        for call in calls:
            with pytest.raises(Unreachable, match="closed"):
                call.result()
        assert time.monotonic() - started < 30  # of 60


def test_closing_ends_the_calls_that_are_under_way_and_leaves_nothing(
    shell: Shell, server: Server
) -> None:
    threads, files = set(threading.enumerate()), _open_files()
    go_on = threading.Event()
    server.see(pause=go_on.wait)
    with shell(server.url, policy=Policy(timeout=60)) as digits:
        _ends_with_unreachable(digits, lambda: len(server.calls) == 3)
        go_on.set()
        with pytest.raises(Unreachable, match="closed"):
            digits.classify(IMAGES)
    mine = {"hedge", "classify_many"}
    new = [thread.name for thread in set(threading.enumerate()) - threads]
    assert not [name for name in new if name.split("_")[0] in mine]
    assert isinstance(server, ScriptedGrpc) or _soon(lambda: _open_files() <= files)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_closing_ends_the_wait_for_the_next_attempt(
    shell: Shell, scheme: str, closed_port: int
) -> None:
    attempts: list[object] = []

    def seen(attempt: object) -> contextlib.nullcontext[None]:
        attempts.append(attempt)
        return contextlib.nullcontext()

    url = f"{scheme}://127.0.0.1:{closed_port}"
    policy = Policy(timeout=60, first_wait=50, longest_wait=50)
    with shell(url, policy=policy, observe=seen) as digits:
        _ends_with_unreachable(digits, lambda: len(attempts) == 3)


@pytest.mark.parametrize("scheme", ["grpc", "http", "grpcs", "https"])
def test_closing_ends_what_a_silent_server_holds_up(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    url = f"{scheme}://127.0.0.1:{raw_server(None)}"
    before = _open_files()
    with shell(url, policy=Policy(attempts=1, timeout=60)) as digits:
        _ends_with_unreachable(digits, lambda: _open_files() - before)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_at_any_moment_of_connecting_ends_the_call(
    shell: Shell, scheme: str, raw_server: Callable[[bytes | None], int]
) -> None:
    url = f"{scheme}://127.0.0.1:{raw_server(None)}"
    for _ in range(30):
        before = _open_files()
        with shell(url, policy=Policy(attempts=1, timeout=60)) as digits:
            _ends_with_unreachable(digits, lambda before=before: _open_files() - before)  # type: ignore[misc]
