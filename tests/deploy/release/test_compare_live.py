"""`python -m deploy compare --live` on a real engine, with real callers."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import Version
from tests.deploy.monitoring.prometheus import again_and_again, until
from tests.deploy.operate.bundle import Bundle, docker
from tests.deploy.release.changed import TurnsOnWhite
from tfserving_client import ServingClient

PROJECT = "digits-live-test"
WHITE = np.full((1, 28, 28), 255, np.uint8)
SAMPLE = ["--live", "--share", "99", "--rate", "100", "--for"]


@pytest.fixture(scope="module")
def bundle(
    stand_in: str, nginx: str, published: Version, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bundle]:
    """Version 1 is live; 2 is the same, and 3 answers as it must, but not to what callers send."""
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}
    made = Bundle(tmp_path_factory.mktemp("live"), images, PROJECT)
    made.publish(published)
    made.done("up")
    made.done("promote", "1")
    made.publish(published, 2)
    TurnsOnWhite(published.path).save(made.models / "3")
    yield made
    made.clear()


@contextlib.contextmanager
def _white(bundle: Bundle) -> Iterator[None]:
    """Callers over both protocols, who send white pictures."""
    with (
        ServingClient(f"grpc://localhost:{bundle.grpc}", model="mnist") as by_grpc,
        ServingClient(f"http://localhost:{bundle.rest}", model="mnist") as by_rest,
    ):

        def ask() -> None:
            for serving in (by_grpc, by_rest):
                serving.predict(WHITE)

        with again_and_again(ask, 0.05):
            yield


def _kept(bundle: Bundle) -> str:
    """What is left of requests in the gateway."""
    gateway = bundle.ids()["gateway-1"]
    return docker("exec", gateway, "sh", "-c", "ls /run/gateway/shadow")


def _is_over(bundle: Bundle) -> None:
    """Nothing is kept any more, nor what was."""
    for folder in ("server", "config"):
        assert not (bundle.root / "deploy" / "machine" / folder / "shadow.config").exists()
    until(lambda: _kept(bundle) == "", "the end of what was kept")


def _found(bundle: Bundle, *arguments: str) -> dict[str, Any]:
    said = bundle("compare", *arguments, "--json")
    assert said.stdout, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    assert said.returncode == (0 if found["alike"] else 1)
    return found


def test_live_requests_over_both_protocols_are_asked_of_both(bundle: Bundle) -> None:
    with bundle.load() as calls:
        found = _found(bundle, "2", *SAMPLE, "5s")
        before = calls()
        until(lambda: calls() > before, "more calls")  # nobody was disturbed
    assert found["versions"] == [2, 1]
    assert found["requests"] > 10
    assert found["outputs"]
    assert not [name for name, one in found["outputs"].items() if one["differing"]]
    assert not [one for one in found["problems"] if not one.startswith("a request takes")]
    _is_over(bundle)


def test_a_version_that_is_right_on_golden_answers_and_wrong_on_live_requests(
    bundle: Bundle,
) -> None:
    assert _found(bundle, "3")["outputs"]["digits"]["differing"] == 0
    with _white(bundle):
        said = bundle("compare", "3", *SAMPLE, "5s")
    assert said.returncode == 1
    assert "version 3 does not behave like 1: output " in said.stderr.splitlines()[-1]
    assert "differs in 100.0% of the rows" in said.stderr.splitlines()[-1]
    assert "⣿" in said.stdout  # what was asked
    _is_over(bundle)


def test_without_requests_or_a_gateway_it_is_told(bundle: Bundle) -> None:
    refused = bundle.refused("compare", "2", "--live", "--for", "1s")
    assert "no request to mnist was kept in 1 s, with a share of 1 %" in refused
    _is_over(bundle)
    refused = bundle.refused("compare", "2", "--live", "--requests", "x.npz", status=2)
    assert "not allowed with argument" in refused


def test_one_at_a_time_and_after_a_kill_the_next_one_does(bundle: Bundle) -> None:
    long = ["compare", "2", "--live", "--for", "10m"]
    with bundle.typing(*long) as process:
        assert process.stderr
        assert any(line.startswith("sample  ") for line in process.stderr)
        assert "another `compare --live` takes a sample" in bundle.refused(*long)
    process.wait()
    assert process.returncode == 130
    _is_over(bundle)
    bundle.interrupted("sample  ", *long, sent=signal.SIGKILL)
    assert _kept(bundle) != ""
    assert "was kept in 2 s" in bundle.refused("compare", "2", "--live", "--for", "2s")
    _is_over(bundle)
