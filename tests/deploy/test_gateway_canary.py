"""The gateway's nginx, which sends a share of the callers to a candidate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from deploy.operate.access import keys
from deploy.release import sharing
from deploy.runner import free_ports
from tests.deploy.gateway import Gateway, running, secrets_in, until
from tests.deploy.recorder import Recorder, recording

STABLE, CANDIDATE = "127.0.0.2", "127.0.0.3"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
PREDICT_OVER_REST = "/v1/models/mnist:predict"
KEYS = 200


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[tuple[int, int], dict[str, Recorder]]]:
    ports = free_ports(2)
    with ExitStack() as opened:
        yield (
            (ports[0], ports[1]),
            {
                address: opened.enter_context(recording(address, (ports[0], ports[1])))
                for address in (STABLE, CANDIDATE)
            },
        )


@pytest.fixture(scope="module")
def gateway(
    servers: tuple[tuple[int, int], dict[str, Recorder]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("canary"), [STABLE], servers[0]) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def known(gateway: Gateway) -> Mapping[str, str]:
    """Name → key, of callers that the gateway knows."""
    with gateway.reloading(), secrets_in(gateway.folder):
        return {made.name: made.key for n in range(KEYS) if (made := keys.create(f"caller-{n}"))}


def _share(gateway: Gateway, percent: float, names: list[str]) -> None:
    with gateway.reloading():
        gateway.canary(sharing.text("mnist", 2, percent, names), CANDIDATE)


def _sides(gateway: Gateway, known: Mapping[str, str]) -> dict[str, str]:
    """Name → the server that answers it over REST."""
    return {
        name: gateway.ask("POST", PREDICT_OVER_REST, b"{}", key=key).body.decode()
        for name, key in known.items()
    }


def _over_grpc(
    gateway: Gateway, known: Mapping[str, str], recorders: Mapping[str, Recorder]
) -> dict[str, str]:
    """Name → the server that answers it over gRPC."""
    found = {}
    with gateway.channel() as channel:
        call = channel.unary_unary(PREDICT)
        for name, key in known.items():
            before = len(recorders[CANDIDATE].asked)
            call(b"", metadata=[("x-api-key", key)], timeout=60)
            asked = len(recorders[CANDIDATE].asked) > before
            found[name] = CANDIDATE if asked else STABLE
    return found


def _share_of(sides: Mapping[str, str]) -> float:
    return sum(side == CANDIDATE for side in sides.values()) / len(sides)


def test_the_share_is_kept_to_over_both_protocols_and_nobody_changes_sides(
    gateway: Gateway,
    servers: tuple[tuple[int, int], dict[str, Recorder]],
    known: Mapping[str, str],
) -> None:
    assert _share_of(_sides(gateway, known)) == 0
    before: dict[str, str] = {}
    for percent in (5, 25, 50):
        _share(gateway, percent, [*known])
        sides = _sides(gateway, known)
        assert _share_of(sides) == pytest.approx(percent / 100, abs=0.01)
        assert _over_grpc(gateway, known, servers[1]) == sides
        assert _sides(gateway, known) == sides
        # Who has been answered by the candidate stays with it as the share grows.
        assert all(sides[name] == CANDIDATE for name, was in before.items() if was == CANDIDATE)
        before = sides
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    assert {line["side"] for line in lines} == {"stable", "candidate"}
    with gateway.reloading():
        (gateway.folder / "canary.config").unlink()
    assert _share_of(_sides(gateway, known)) == 0


def test_a_key_that_comes_or_goes_moves_no_other(
    gateway: Gateway, known: Mapping[str, str]
) -> None:
    _share(gateway, 30, [*known])
    sides = _sides(gateway, known)
    gateway.revoke("caller-0")
    late = {"late": gateway.new_key("late")}
    others = {name: key for name, key in known.items() if name != "caller-0"}
    assert _sides(gateway, others) == {name: sides[name] for name in others}
    assert len({*_sides(gateway, late).values(), *_sides(gateway, late).values()}) == 1


def test_a_candidate_that_fails_is_stood_in_for(gateway: Gateway, known: Mapping[str, str]) -> None:
    names = [name for name in known if name != "caller-0"]
    with gateway.reloading():
        gateway.canary(sharing.text("mnist", 2, 90, names), "127.0.0.9")  # where nobody listens
    asked = {name: known[name] for name in names[:50]}
    # The first reload may have seen the new share and the old address.
    until(lambda: {*_sides(gateway, asked).values()} == {STABLE})
    # It is the candidate that failed, and the log says so.
    told = re.compile(r'"side":"candidate".*"upstream":"127.0.0.9[^"]*, 127')
    until(lambda: told.search(gateway.log) is not None)
