"""`python -m deploy promote` and `rollback` on a real engine, while others call."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Version
from tests.deploy.operate.bundle import DIGIT, Bundle, docker
from tfserving_client import DigitClient

PROJECT = "digits-release-test"


@pytest.fixture(scope="module")
def served(
    stand_in: str, nginx: str, published: Version, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bundle]:
    """Two replicas of version 1, the newest, under no release control."""
    images = {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}
    made = Bundle(tmp_path_factory.mktemp("release"), images, PROJECT)
    made.publish(published)
    up = made("up", "--scale", "2")
    assert up.returncode == 0, up.stderr
    yield made
    made.clear()


@pytest.fixture
def bundle(served: Bundle) -> Iterator[Bundle]:
    """Version 1 is live, and alone; what a test publishes and writes is gone after it."""
    yield served
    if (served.models / "away").exists():
        (served.models / "away").rename(served.models / "1")
    for command in (["up"], ["promote", "1", "--grace", "0"], ["promote", "--always-newest"]):
        for folder in [*served.models.iterdir()] if "--always-newest" in command else ():
            if folder.name != "1":
                shutil.rmtree(folder)
        done = served(*command)
        assert done.returncode == 0, done.stderr
    (served.root / "deploy" / "machine" / "releases.jsonl").unlink()


def _versions(bundle: Bundle) -> list[list[str]]:
    """What each replica says of each version that it has, labels included."""
    containers = bundle.status()[1]["containers"]
    return [
        sorted(
            " ".join([str(each["version"]), *each["labels"]])
            for each in one["versions"]
            if each["state"] == "AVAILABLE"
        )
        for one in containers
        if one["name"].startswith("serving")
    ]


def _history(bundle: Bundle) -> list[tuple[str, int | None, int | None, str]]:
    releases = json.loads(bundle("history", "--json").stdout)["releases"]
    return [(one["action"], one["before"], one["to"], one["outcome"]) for one in releases]


def _with_swapped_classes(folder: Path) -> None:
    """Its golden answers are those of a model that took ones for sevens."""
    path = folder / "assets.extra" / "golden.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["probabilities"] = arrays["probabilities"].copy()
    arrays["probabilities"][:, [1, 7]] = arrays["probabilities"][:, [7, 1]]
    np.savez_compressed(path, allow_pickle=False, **arrays)


def test_a_version_is_promoted_and_rolled_back_while_others_call(
    bundle: Bundle, published: Version
) -> None:
    with bundle.load() as calls:
        assert bundle.done("promote", "1") == "mnist: 1 is live\n"
        bundle.publish(published, 2)
        assert _versions(bundle) == [["1 stable"]] * 2  # what appears is not live
        before = calls()
        assert bundle.done("promote", "2", "--grace", "0", "--why", "better") == (
            "mnist: 2 is live\n"
        )
        assert _versions(bundle) == [["2 stable"]] * 2
        assert bundle.done("rollback") == "mnist: 1 is live\n"
        assert _versions(bundle) == [["1 stable"]] * 2
        assert calls() > before
    with DigitClient(f"grpc://localhost:{bundle.grpc}") as digits:
        assert digits.classify(DIGIT, label="stable").version == 1
    assert _history(bundle) == [
        ("promote", 1, 1, "done"),
        ("promote", 1, 2, "done"),
        ("rollback", 2, 1, "done"),
    ]
    told = bundle("history").stdout.splitlines()
    assert told[2].endswith("done     better")
    assert "newest version is always live" in bundle.done("promote", "--always-newest")
    assert _versions(bundle) == [["2"]] * 2
    # Without release control: the one below the newest, which is thereby under control.
    assert bundle.done("rollback") == "mnist: 1 is live\n"
    assert _versions(bundle) == [["1 stable"]] * 2


def test_in_the_time_of_grace_the_version_before_is_still_there(
    bundle: Bundle, published: Version
) -> None:
    bundle.done("promote", "1")
    bundle.publish(published, 2)
    with bundle.typing("promote", "2", "--grace", "600") as process:
        assert process.stderr
        assert next(process.stderr).startswith("plan")
        for command in (["rollback"], ["models", "remove", "mnist"], ["up"], ["canary", "2"]):
            more = ["--percent", "5"] if "canary" in command else []
            assert "another command changes what is served" in bundle.refused(*command, *more)
        said = list(itertools.takewhile(lambda line: not line.startswith("grace"), process.stderr))
        assert process.poll() is None, said
        assert _versions(bundle) == [["1 previous", "2 stable"]] * 2
        assert bundle.done("rollback") == "mnist: 1 is live\n"
        assert _versions(bundle) == [["1 stable"]] * 2
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert _history(bundle)[-1] == ("rollback", 2, 1, "done")


def test_what_is_not_as_it_must_be_never_answers_anybody(
    bundle: Bundle, published: Version
) -> None:
    bundle.done("promote", "1")
    for number in (2, 3, 4, 5):
        bundle.publish(published, number)
    _with_swapped_classes(bundle.models / "2")
    (bundle.models / "3" / "saved_model.pb").write_bytes(b"broken")
    records = bundle.models / "4" / "assets.extra" / "tf_serving_warmup_requests"
    records.write_bytes(b"no records " * 9)
    (bundle.models / "5" / "assets.extra" / "golden.npz").unlink()
    with bundle.load():
        said = bundle.refused("promote", "2")
        assert "candidate-1: signature" in said
        assert "output probabilities differs in" in said
        assert "version 3 of mnist failed to load" in bundle.refused("promote", "3")
        assert "version 4 of mnist failed to load" in bundle.refused("promote", "4")
        assert "golden.npz is missing" in bundle.refused("promote", "5")
        assert "--without-golden releases it without this check" in bundle.refused("promote", "5")
        said = bundle.refused("promote", "9", status=2)
        assert said.endswith("mnist has no version 9; there are 1, 2, 3, 4, 5")
    assert _versions(bundle) == [["1 stable"]] * 2
    outcomes = [outcome.partition(":")[0] for *_, outcome in _history(bundle)]
    assert outcomes == ["done", "refused", "refused", "refused"]


def test_a_rollback_needs_the_bad_version_not(bundle: Bundle, published: Version) -> None:
    bundle.done("promote", "1")
    bundle.publish(published, 2)
    bundle.done("promote", "2", "--grace", "0")
    shutil.rmtree(bundle.models / "2")
    for replica in (1, 2):  # with a folder that is gone, no server starts
        docker("restart", f"{PROJECT}-serving-{replica}")
    assert bundle.done("rollback") == "mnist: 1 is live\n"
    assert _versions(bundle) == [["1 stable"]] * 2
    (bundle.models / "1").rename(bundle.models / "away")
    said = bundle.refused("rollback")
    assert said.endswith("mnist has no version to go back to from 1; on disk: none")


def test_a_command_that_is_killed_is_taken_up_by_the_next(
    bundle: Bundle, published: Version
) -> None:
    bundle.done("promote", "1")
    bundle.publish(published, 2)
    lines = ("2 is loaded on a separate server", "step    2 is loaded\n", "step    2 is live")
    for line in lines:
        killed = bundle.interrupted(line, "promote", "2", sent=signal.SIGKILL)
        assert killed == -signal.SIGKILL
        assert _history(bundle)[-1] == ("promote", 1, 2, "")
        if line is lines[-1]:
            assert bundle.done("promote", "2", "--grace", "0") == "mnist: 2 is live\n"
            assert _versions(bundle) == [["2 stable"]] * 2
            assert _history(bundle)[-2] == ("promote", 1, 2, "done")
        else:
            assert bundle.done("rollback") == "mnist: 1 is live\n"
            assert _versions(bundle) == [["1 stable"]] * 2
            assert _history(bundle)[-2] == ("promote", 1, 2, "interrupted; 1 is live")
    assert "candidate" not in {one["service"] for one in bundle.status()[1]["containers"]}
