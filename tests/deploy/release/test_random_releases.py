"""Releases in random order while clients keep asking, and something is killed now and then.

No call fails, what is live in the end is one of the two versions that were meant, on every replica,
and the history says so. RELEASE_STEPS=100 and RELEASE_SEED=… play more of them
(`make bench-releases`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Version
from tests.deploy.operate.bundle import Bundle, docker

STEPS = int(os.environ.get("RELEASE_STEPS", "2"))
SEED = int(os.environ.get("RELEASE_SEED", "20"))
PROJECT = "digits-releases-test"
PATIENCE = 240  # seconds for what takes a few
VERSIONS = 3
KILLED = ("nothing", "nothing", "the command", "a replica", "the gateway", "all of them")


class Releases:
    """The stack, and what may happen to it."""

    def __init__(self, bundle: Bundle, chance: random.Random) -> None:
        self.bundle, self.chance = bundle, chance
        self.kills = Counter[str]()

    @property
    def live(self) -> int:
        """The version that every replica says is stable."""
        deadline = time.monotonic() + PATIENCE
        while True:
            containers = self.bundle.status()[1]["containers"]
            replicas = [one for one in containers if one["service"] == "serving"]
            stable = {
                each["version"]
                for one in replicas
                for each in one["versions"] or []
                if "stable" in each["labels"]
            }
            well = all(one["health"] == "healthy" for one in replicas)
            if len(stable) == 1 and len(replicas) == 2 and well:
                return int(stable.pop())
            assert time.monotonic() < deadline, containers
            time.sleep(0.5)

    def step(self) -> str:
        """A release, perhaps with something killed while it goes on, and one to its end."""
        live = self.live
        to = self.chance.choice([number for number in range(1, VERSIONS + 1) if number != live])
        first = self.chance.choice(
            [["promote", str(to), "--grace", "0"], ["canary", str(to), "--percent", "50"]]
        )
        recorded = len(self._history())
        what = self._run(first)
        # One that was killed before its first record, or has undone itself, left nothing behind.
        left = [one for one in self._history()[recorded:] if "refused" not in one["outcome"]]
        last = self.chance.choice([["promote", str(to), "--grace", "0"], ["rollback"]])
        if not self._until_done(last):
            assert self.live == live
        elif last == ["rollback"]:
            assert self.live != (to if left else live)
        else:
            assert self.live == to
        self._truth()
        return f"{' '.join(first)}, {what} killed, {' '.join(last)}"

    def _run(self, command: list[str]) -> str:
        """A command to its end; what was killed meanwhile."""
        what = self.chance.choice(KILLED)
        after = self.chance.uniform(0, 25)
        with self.bundle.typing(*command) as process:
            said = threading.Thread(target=process.communicate)
            said.start()
            if what != "nothing":
                self.kills[what] += 1
                said.join(after)
                if what in ("the command", "all of them"):
                    process.send_signal(signal.SIGKILL)
                names = {
                    "a replica": [f"{PROJECT}-serving-{self.chance.randint(1, 2)}"],
                    "the gateway": [f"{PROJECT}-gateway-1"],
                    "all of them": [f"{PROJECT}-serving-1", f"{PROJECT}-gateway-1"],
                }.get(what, [])
                for name in names:
                    docker("kill", name)
                for name in names:
                    docker("start", name)
            said.join()
        return what

    def _until_done(self, command: list[str]) -> bool:
        """What was killed comes back by itself; then nothing keeps the command from its end.

        False if there is no version to go back to.
        """
        deadline = time.monotonic() + PATIENCE
        while (done := self.bundle(*command)).returncode:
            if command == ["rollback"] and "no version to go back to" in done.stderr:
                return False
            assert time.monotonic() < deadline, done.stderr
            time.sleep(1)
        return True

    def _history(self) -> list[dict[str, Any]]:
        releases: list[dict[str, Any]] = json.loads(self.bundle.done("history", "--json"))[
            "releases"
        ]
        return releases

    def _truth(self) -> None:
        """The last release that was done is the one that is live, and none is still open."""
        releases = self._history()
        assert all(one["outcome"] for one in releases)
        done = [one["to"] for one in releases if one["outcome"] == "done"]
        assert done[-1] == self.live


def test_random_releases_under_load(
    stand_in: str, nginx: str, published: Version, tmp_path: Path
) -> None:
    bundle = Bundle(tmp_path, {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}, PROJECT)
    releases = Releases(bundle, random.Random(SEED))
    try:
        bundle.publish(published)
        for command in (["up", "--scale", "2"], ["promote", "1"]):
            begun = bundle(*command)
            assert begun.returncode == 0, begun.stderr
        for number in range(2, VERSIONS + 1):
            bundle.publish(published, number)
        with bundle.load() as calls:
            start = time.monotonic()
            for number in range(1, STEPS + 1):
                try:
                    what = releases.step()
                except (AssertionError, subprocess.SubprocessError) as error:
                    pytest.fail(f"step {number}: {error}")
                told = f"{number:3} {time.monotonic() - start:6.0f} s, {calls():,} calls a client"
                print(f"{told}: {what}", flush=True)
        print(dict(releases.kills))
    finally:
        bundle.clear()
