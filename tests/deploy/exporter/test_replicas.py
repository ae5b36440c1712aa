"""States of versions, from servers that say what the test wants."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.exporter import replicas
from deploy.exporter.models import Models
from deploy.exporter.replicas import Replicas
from tfserving_client import Policy

MISSING = (404, {"error": "Could not find any versions of model mnist"})


def status(**versions: str) -> tuple[int, Any]:
    rows = [
        {
            "version": number.removeprefix("v"),
            "state": state,
            "status": {"error_code": "OK", "error_message": ""},
        }
        for number, state in versions.items()
    ]
    return 200, {"model_version_status": rows}


class Replica:
    """A server whose answer the test may change."""

    def __init__(self, answer: tuple[int, Any]) -> None:
        self.answer = answer
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = replica.answer if self.path == "/v1/models/mnist" else MISSING
                text = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def serving(*answers: tuple[int, Any]) -> Iterator[list[Replica]]:
    with contextlib.ExitStack() as stack:
        made = [Replica(answer) for answer in answers]
        for one in made:
            stack.enter_context(one.server)
            thread = threading.Thread(target=one.server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(one.server.shutdown)
        yield made


def test_states_of_every_version_on_every_replica(models: Models, samples: Any) -> None:
    two, one = status(v2="LOADING", v1="AVAILABLE"), status(v1="END")
    with serving(two, one) as (first, second):
        seen = samples(Replicas(f"{first.place},{second.place}", models))
    state, newest = "digits_model_version_state", "digits_model_newest_available_version"
    assert {key: value for key, value in seen.items() if "second" not in key} == {
        ("digits_replica_up", first.place): 1,
        ("digits_replica_up", second.place): 1,
        ("digits_model_available", first.place, "mnist"): 1,
        ("digits_model_available", second.place, "mnist"): 0,
        (newest, first.place, "mnist"): 1,
        (state, first.place, "mnist", "2", "LOADING"): 1,
        (state, first.place, "mnist", "1", "AVAILABLE"): 1,
        (state, second.place, "mnist", "1", "END"): 1,
    }
    # Configured, but never seen by the server.
    assert seen["digits_model_available", first.place, "second"] == 0


def test_what_vanishes_on_the_server_vanishes_here(models: Models, samples: Any) -> None:
    with serving(status(v2="AVAILABLE", v1="AVAILABLE")) as (replica,):
        eyes = Replicas(replica.place, models)
        assert samples(eyes)["digits_model_newest_available_version", replica.place, "mnist"] == 2
        replica.answer = status(v1="AVAILABLE")
        seen = samples(eyes)
        assert seen["digits_model_newest_available_version", replica.place, "mnist"] == 1
        assert not any("2" in key for key in seen)
        replica.answer = MISSING
        seen = samples(eyes)
    assert seen["digits_replica_up", replica.place] == 1
    assert seen["digits_model_available", replica.place, "mnist"] == 0
    assert not any(name == "digits_model_version_state" for name, *_ in seen)


@pytest.mark.parametrize("answer", [(200, {"hello": "world"}), (500, {}), (200, [1])])
def test_what_does_not_speak_as_the_server_does_is_down(
    answer: Any, tmp_path: Path, samples: Any
) -> None:
    only_one = tmp_path / "models.config"
    only_one.write_text('model_config_list { config { name: "mnist" } }')
    with serving(answer) as (replica,):
        seen = samples(Replicas(replica.place, Models(only_one)))
    assert seen == {
        ("digits_replica_up", replica.place): 0,
        ("digits_model_available", replica.place, "mnist"): 0,
    }


def test_replicas_that_hang_or_refuse_are_down_and_hold_nobody_up(
    models: Models, samples: Any, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_NO_RETRY", Policy(timeout=5, attempts=1))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        ports = [listener.getsockname()[1] for listener in silent]
        places = [f"127.0.0.1:{port}" for port in (*ports, closed_port)]
        (alive,) = stack.enter_context(serving(status(v1="AVAILABLE")))
        scrape = Replicas(",".join([*places, alive.place]), models)
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.append(samples(scrape)), daemon=True)
        thread.start()
        thread.join(30)
    assert done, "they are asked one after the other"
    up = {key[1]: value for key, value in done[0].items() if key[0] == "digits_replica_up"}
    assert up == {**dict.fromkeys(places, 0), alive.place: 1}


def test_each_address_of_a_name_is_a_replica_and_no_address_is_none(
    models: Models, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"serving": ["127.0.0.1", "127.0.0.2"]}

    def resolve(host: str) -> tuple[str, list[str], list[str]]:
        if host not in names:
            raise socket.gaierror(-2, "Name or service not known")
        return host, [], names[host]

    monkeypatch.setattr(socket, "gethostbyname_ex", resolve)
    eyes = Replicas("serving:9", models)
    up = "digits_replica_up"
    assert {key[1] for key in samples(eyes) if key[0] == up} == {"127.0.0.1:9", "127.0.0.2:9"}
    del names["serving"]
    assert samples(eyes) == {}
