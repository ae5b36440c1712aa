"""States of versions, from servers that say what the test wants."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.exporter import replicas
from deploy.exporter.models import Models
from deploy.exporter.replicas import Replicas
from tfserving_client import Policy


def _in(folder: Path, base_path: str) -> Path:
    """Where a base path of the server's lies here."""
    return folder / base_path.removeprefix("/")


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


def test_states_of_every_version_on_every_replica(
    models: Models, tmp_path: Path, samples: Any
) -> None:
    two, one = status(v2="LOADING", v1="AVAILABLE"), status(v1="END")
    for version in "1", "2":
        (tmp_path / "models" / "mnist" / version).mkdir(parents=True)
    with serving(two, one) as (first, second):
        see = partial(_in, tmp_path)
        seen = samples(Replicas(f"{first.place},{second.place}", models, see))
    state, newest = "digits_model_version_state", "digits_model_newest_available_version"
    differs, label = "digits_model_differs", "mnist: no version answers to the label 'stable', "
    assert {key: value for key, value in seen.items() if "second" not in key} == {
        (differs, first.place, "mnist", "2", "waiting", "version 2 of mnist is not served yet"): 1,
        (differs, second.place, "mnist", "1", "waiting", "version 1 of mnist is not served yet"): 1,
        (differs, second.place, "mnist", "2", "waiting", "version 2 of mnist is not served yet"): 1,
        (differs, first.place, "mnist", "", "configuration", f"{label}which is for 1"): 1,
        (differs, second.place, "mnist", "", "configuration", f"{label}which is for 1"): 1,
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


def test_what_is_not_as_configured_says_so(tmp_path: Path, samples: Any) -> None:
    """A version that failed, a model that was dropped and goes on, a file that says nothing."""
    (tmp_path / "models" / "mnist" / "2").mkdir(parents=True)
    config = tmp_path / "models.config"
    models = Models(config)

    def differing(place: str) -> list[tuple[str, ...]]:
        seen = samples(Replicas(place, models, partial(_in, tmp_path)))
        return sorted(key[1:] for key in seen if key[0] == "digits_model_differs")

    code, answer = status(v2="END", v1="AVAILABLE")
    answer["model_version_status"][0]["status"]["error_message"] = "NOT_FOUND: no\n " + "o" * 400
    with serving((code, answer)) as (replica,):
        config.write_text(
            'model_config_list { config { name: "mnist" base_path: "/models/mnist" } }'
        )
        ((_, model, version, kind, what),) = differing(replica.place)
        assert (model, version, kind) == ("mnist", "2", "failed")
        assert what.startswith("version 2 of mnist failed to load: NOT_FOUND: no ooo")
        assert len(what) == 300
        config.write_text("model_config_list {")
        assert [one[3] for one in differing(replica.place)] == ["configuration", "failed"]
        config.write_text("model_config_list {}")
        ((where, *_, what),) = differing(replica.place)
        assert (where, what.partition(": ")[0]) == (replica.place, "mnist")
        assert "not configured any more" in what


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
