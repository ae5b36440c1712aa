"""Versions come and go under load, and nobody who asks notices."""

import json
from pathlib import Path
from typing import Any

from tests.bench.switches import callers, switch

NAMES = [f"line-{number}" for number in range(6)]


def test_sixty_switches_without_a_failed_request(models: Path, start_server: Any) -> None:
    base = models / "line"
    server = start_server(model_name="line", model_base_path=base).wait_ready()
    switch(server.model, base, NAMES, 1)

    def over_grpc() -> None:
        (y,) = server.predict(NAMES[0], x=[2.0]).outputs["y"].float_val
        assert y in (3.0, 4.0)

    def over_rest() -> None:
        path, body = f"/v1/models/{NAMES[1]}:predict", '{"instances": [2.0]}'
        assert json.loads(server.rest("POST", path, body)[2])["predictions"] in ([3.0], [4.0])

    with callers([over_grpc, over_grpc, over_rest, over_rest]) as load:
        for number in [2, 1] * 5:
            switch(server.model, base, NAMES, number)
    assert load.answered
    assert not load.failed
    assert server.states(NAMES[0]) == {1: "AVAILABLE", 2: "END"}
    assert "Traceback" not in server.log.read_text()
