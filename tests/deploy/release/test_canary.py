"""`python -m deploy canary` on a real engine, judged by a real Prometheus."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.runner import free_ports
from tests.conftest import Version
from tests.deploy.monitoring.prometheus import again_and_again, until
from tests.deploy.operate.bundle import DIGIT, PATIENT, Bundle
from tests.deploy.release.changed import Slow, TurnsOnWhite
from tfserving_client import AccessDenied, DigitClient, ServingClient, Tls

PROJECT = "digits-canary-test"
WHITE = np.full((10, 28, 28), 255, np.uint8)  # a batch, as answers are counted by rows


@pytest.fixture(scope="module")
def served(
    stand_in: str, nginx: str, published: Version, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bundle]:
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}
    made = Bundle(tmp_path_factory.mktemp("canary"), images, PROJECT)
    made.publish(published)
    up = made("up")
    assert up.returncode == 0, up.stderr
    controlled = made("promote", "1")
    assert controlled.returncode == 0, controlled.stderr
    for number in (2, 3):
        made.publish(published, number)
    TurnsOnWhite(published.path).save(made.models / "4")
    Slow(published.path).save(made.models / "5")
    golden = made.models / "3" / "assets.extra" / "golden.npz"
    with np.load(golden) as file:
        arrays = dict(file)
    arrays["probabilities"] = arrays["probabilities"][:, ::-1]  # of another model
    np.savez_compressed(golden, allow_pickle=False, **arrays)
    yield made
    made.clear()


@pytest.fixture
def bundle(served: Bundle) -> Iterator[Bundle]:
    """Version 1 is live; what a test tries is over after it."""
    yield served
    over = served("promote", "1", "--grace", "0")
    if over.returncode:
        over = served("rollback")
    assert over.returncode == 0, over.stderr
    assert "canary" not in _services(served)


@pytest.fixture
def port(bundle: Bundle, prometheus: str, tmp_path: Path) -> Iterator[str]:
    """Of Prometheus, which watches the bundle, while six keys ask over either protocol."""
    tls = Tls(ca=bundle.secrets / "gateway" / "ca.pem")
    keys = _created(bundle, *(f"caller-{i}" for i in range(6)))
    _answers(bundle, keys)  # now they are known
    with contextlib.ExitStack() as opened:
        watched = opened.enter_context(bundle.watched(prometheus, tmp_path))
        for i, key in enumerate(keys.values()):
            url = f"{('grpcs', 'https')[i % 2]}://localhost:{bundle.tls_port}"
            serving = opened.enter_context(
                ServingClient(url, model="mnist", api_key=key, tls=tls, policy=PATIENT)
            )
            opened.enter_context(again_and_again(functools.partial(serving.predict, WHITE), 0.05))
        yield watched.url.rpartition(":")[2]
    for name in keys:
        bundle.done("keys", "revoke", name)


def _services(bundle: Bundle) -> set[str]:
    return {one["service"] for one in bundle.status()[1]["containers"]}


def _created(bundle: Bundle, *names: str) -> dict[str, str]:
    """Name → its new key."""
    return {name: bundle.done("keys", "create", name).strip() for name in names}


def _answers(bundle: Bundle, keys: dict[str, str]) -> dict[str, int | None]:
    """Name → the version that answers it over gRPC."""
    tls = Tls(ca=bundle.secrets / "gateway" / "ca.pem")
    found = {}
    for name, key in keys.items():
        with DigitClient(f"grpcs://localhost:{bundle.tls_port}", api_key=key, tls=tls) as digits:

            def known(digits: DigitClient = digits) -> bool:
                try:
                    return bool(digits.classify(DIGIT))
                except AccessDenied:
                    return False

            until(known, f"the key of {name}")
            found[name] = digits.classify(DIGIT).version
    return found


def test_a_share_of_the_callers_is_answered_by_the_candidate(bundle: Bundle) -> None:
    keys = _created(bundle, "ann", "bob", "cy", "di")
    with bundle.load() as calls:
        said = bundle.done("canary", "2", "--percent", "25", "--why", "a quarter")
        assert said == "mnist: 25 % of the callers are sent to 2\n"
        first = _first_with(bundle, keys, 1)
        bundle.done("canary", "2", "--percent", "50")
        second = _first_with(bundle, keys, 2)
        assert all(second[name] == 2 for name, version in first.items() if version == 2)
        # Nothing else may change what is served meanwhile.
        for command in (["models", "add", "x"], ["promote", "3"], ["promote", "--always-newest"]):
            refused = bundle(*command)
            assert refused.returncode == 1
            assert "canary" in refused.stderr.splitlines()[-1]
        # What `up` means keeps the candidate.
        bundle.done("up")
        assert "candidate" in _services(bundle)
        before = calls()
        assert bundle.done("rollback") == "mnist: 1 is live\n"
        assert calls() >= before
    assert "candidate" not in _services(bundle)
    assert {*_answers(bundle, keys).values()} == {1}
    outcomes = [
        one["outcome"] for one in json.loads(bundle("history", "--json").stdout)["releases"]
    ]
    assert outcomes[-3:] == ["25 % of the callers", "50 % of the callers", "done"]
    for name in keys:
        bundle.done("keys", "revoke", name)


def _first_with(bundle: Bundle, keys: dict[str, str], count: int) -> dict[str, int | None]:
    """Who is answered by which version, once so many are answered by the candidate."""
    found: dict[str, int | None] = {}

    def enough() -> bool:
        found.update(_answers(bundle, keys))
        return [*found.values()].count(2) == count

    until(enough, f"{count} callers of the candidate")
    return found


def test_one_that_answers_otherwise_than_it_must_gets_no_caller(bundle: Bundle) -> None:
    refused = bundle("canary", "3", "--percent", "50")
    assert refused.returncode == 1
    assert "output probabilities differs in" in refused.stderr.splitlines()[-1]
    assert "candidate" not in _services(bundle)
    assert not (bundle.root / "deploy" / "machine" / "server" / "canary.config").exists()


def test_one_that_does_well_becomes_live_by_steps(bundle: Bundle, port: str) -> None:
    steps = ["--steps", "25,50", "--every", "10", "--grace", "0"]
    said = bundle("canary", "2", *steps, PROMETHEUS_PORT=port)
    assert said.returncode == 0, said.stderr
    assert said.stdout == "mnist: 2 is live\n"
    for percent in (25, 50):
        assert f"step    {percent} % of the callers, 10 s" in said.stderr
    assert "of the answers went to other classes" in said.stderr
    assert "candidate" not in _services(bundle)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("4", "of the answers went to other classes"), ("5", "mean at the server")],
    ids=["wrong", "slow"],
)
def test_one_that_is_worse_on_live_traffic_is_taken_back(
    bundle: Bundle, port: str, number: str, reason: str
) -> None:
    steps = ["--steps", "50,75", "--every", "10"]
    said = bundle("canary", number, *steps, PROMETHEUS_PORT=port)
    assert said.returncode == 1
    last = said.stderr.splitlines()[-1]
    assert last.startswith(f"python -m deploy: version {number} of mnist was withdrawn: at 50 % of")
    assert reason in last
    assert "candidate" not in _services(bundle)


def test_without_prometheus_nothing_is_said_and_nobody_stays_with_it(bundle: Bundle) -> None:
    (nobody,) = free_ports(1)
    steps = ["--steps", "25", "--every", "1"]
    said = bundle("canary", "2", *steps, PROMETHEUS_PORT=str(nobody))
    assert said.returncode == 1
    assert f"Prometheus at http://localhost:{nobody} does not answer" in said.stderr
    assert "no verdict yet" in said.stderr
    assert "candidate" not in _services(bundle)
