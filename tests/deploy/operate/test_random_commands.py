"""Commands of an operator in random order, on a real engine, while a client keeps asking.

No call fails but while everything is down by command, the last state is the one asked for, and
`status` tells the truth after each step. OPERATOR_STEPS=100 and OPERATOR_SEED=… play more of them
(`make bench-operator`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Version
from tests.deploy.operate.bundle import DEPLOY, DIGIT, Bundle, docker
from tfserving_client import CallError, DigitClient, Policy, Tls

STEPS = int(os.environ.get("OPERATOR_STEPS", "6"))
SEED = int(os.environ.get("OPERATOR_SEED", "16"))
PATIENCE = 150  # seconds for what takes a few


class Operator:
    """What was asked for so far, and the commands that ask for something else."""

    def __init__(self, bundle: Bundle, published: Version, chance: random.Random) -> None:
        self.bundle, self.published, self.chance = bundle, published, chance
        self.config = bundle.root / "deploy" / "server" / "models.config"
        self.plain_config = self.config.read_text()
        self.replicas, self.runs, self.label = 1, False, 0
        self.versions: list[int] = []
        self.keys: dict[str, str] = {}
        self.publish()

    # What can be typed

    def up(self) -> None:
        self._done(self.bundle.plain(*DEPLOY, "up"))

    def up_scaled(self) -> None:
        self.replicas = self.chance.randint(1, 3)
        self._done(self.bundle.plain(*DEPLOY, "up", "--scale", str(self.replicas)))

    def compose_up(self) -> None:
        self._done(self.bundle.plain("docker", "compose", "up", "--detach"))

    def down(self) -> None:
        command = self.chance.choice([[*DEPLOY, "down"], ["docker", "compose", "down"]])
        self.bundle.stopped.set()
        self._done(self.bundle.plain(*command), runs=False)
        self.verify()
        assert self.bundle.left() == ""
        self.chance.choice([self.up, self.compose_up])()
        self.verify()
        self.bundle.stopped.clear()

    def restart(self) -> None:
        service = self.chance.choice(["serving", "gateway"])
        self._done(self.bundle.plain("docker", "compose", "restart", service))

    def kill(self) -> None:
        name = self.chance.choice([f"serving-{n}" for n in self._numbers()] + ["gateway-1"])
        docker("kill", f"{self.bundle.project}-{name}")
        exit_status, status = self.bundle.status()
        (state,) = (one["state"] for one in status["containers"] if one["name"] == name)
        assert (exit_status, state) == (1, "exited")
        again = [lambda: docker("start", f"{self.bundle.project}-{name}"), self.up, self.compose_up]
        self.chance.choice(again)()

    def publish(self) -> None:
        number = max([0, *self.versions]) + 1
        self.bundle.publish(self.published, number)
        self.versions.append(number)

    def roll_back(self) -> None:
        if len(self.versions) < 2 or self.label == self.versions[-1]:
            self.publish()
            return
        newest = self.bundle.models / str(self.versions.pop())
        newest.rename(self.bundle.models / f"removed-{time.time_ns()}")

    def publish_broken(self) -> None:
        number = max(self.versions) + 1000 + self.chance.randrange(10**6)
        staged = self.bundle.models / ".staging-broken"
        staged.mkdir()
        (staged / "saved_model.pb").write_bytes(b"broken")
        broken = staged.rename(self.bundle.models / str(number))
        self._until(lambda: any(number in {v["version"] for v in r} for r in self._told()))
        self.verify(well=False)
        shutil.rmtree(broken)

    def edit_badly(self) -> None:
        before = self.config.read_text()
        wrong: Callable[[str], str] = self.chance.choice(
            [
                lambda text: text + "}",
                lambda text: text.replace("/models/mnist", "/models/nothing"),
                lambda text: text.replace('"tensorflow"', '"pytorch"'),
                lambda text: text.replace("base_path", "base_bath"),
            ]
        )
        self.config.write_text(wrong(before))
        for command in ("check", "up"):
            assert self.bundle.plain(*DEPLOY, command).returncode == 1
        self.verify(well=False)
        self.config.write_text(before)

    def edit_well(self) -> None:
        if self.label:
            self.label = 0
            self.config.write_text(self.plain_config)
        else:
            self.label = self.versions[-1]
            policy = "model_version_policy { all {} }"
            label = f'version_labels {{ key: "stable" value: {self.label} }}'
            more = f'"tensorflow"\n    {policy}\n    {label}\n'
            self.config.write_text(self.plain_config.replace('"tensorflow"\n', more))
        self.up()

    def key(self) -> None:
        if self.keys:
            name, key = self.keys.popitem()
            self._done(self.bundle.plain(*DEPLOY, "keys", "revoke", name))
            self._until(lambda: not self._answered_at_the_gateway(key))
        else:
            name = f"key{self.chance.randrange(10**6)}"
            made = self.bundle.plain(*DEPLOY, "keys", "create", name)
            self._done(made)
            self.keys[name] = made.stdout.strip()
            self._until(lambda: self._answered_at_the_gateway(self.keys[name]))

    def certificate(self) -> None:
        self._done(self.bundle.plain(*DEPLOY, "certificates"))

    # Whether it is so

    def verify(self, *, well: bool = True) -> None:
        """Wait until status says what was asked for, and if all is well that it is."""
        self._until(lambda: self._as_asked_for(well=well), self.bundle.status)

    def _as_asked_for(self, *, well: bool) -> bool:
        exit_status, status = self.bundle.status()
        if not self.runs:
            return exit_status == 3 and status["containers"] == []
        states = [one["health"] for one in status["containers"]]
        services = [one["service"] for one in status["containers"]]
        available = {
            tuple(v["version"] for v in versions if v["state"] == "AVAILABLE")
            for versions in self._told(status)
        }
        served = self.versions[::-1] if self._serves_all() else self.versions[-1:]
        return (
            (exit_status == 0 or not well)
            and services == ["gateway"] + ["serving"] * self.replicas
            and states == ["healthy"] * len(states)
            and available == {tuple(served)}
            and status["keys"] == len(self.keys)
        )

    def _serves_all(self) -> bool:
        return self.label > 0

    def _told(self, status: dict[str, Any] | None = None) -> list[Any]:
        """The versions of each replica, as status has them."""
        containers = (status or self.bundle.status()[1])["containers"]
        return [one["versions"] or [] for one in containers if one["service"] == "serving"]

    def _numbers(self) -> Iterator[str]:
        for name in self.bundle.ids():
            if name.startswith("serving-"):
                yield name.removeprefix("serving-")

    def _answered_at_the_gateway(self, key: str) -> bool:
        tls = Tls(ca=self.bundle.secrets / "gateway" / "ca.pem")
        url = f"grpcs://localhost:{self.bundle.tls_port}"
        with DigitClient(url, api_key=key, tls=tls, policy=Policy(timeout=20)) as digits:
            try:
                return len(digits.classify(DIGIT)) == 1
            except CallError:
                return False

    def _done(self, done: subprocess.CompletedProcess[str], *, runs: bool = True) -> None:
        assert done.returncode == 0, done.stdout + done.stderr
        self.runs = runs

    def _until(self, condition: Callable[[], bool], told: Callable[[], Any] = str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, told()
            time.sleep(0.3)


COMMANDS = (
    *(Operator.up, Operator.up_scaled, Operator.compose_up, Operator.down, Operator.restart),
    *(Operator.kill, Operator.publish, Operator.roll_back, Operator.publish_broken),
    *(Operator.edit_badly, Operator.edit_well, Operator.key, Operator.certificate),
)


def test_random_commands_under_load(
    stand_in: str, nginx: str, published: Version, tmp_path: Path
) -> None:
    bundle = Bundle(tmp_path, {"TFS_IMAGE": stand_in, "NGINX_IMAGE": nginx}, "digits-operator-test")
    chance = random.Random(SEED)
    operator = Operator(bundle, published, chance)
    try:
        first = bundle("up")
        assert first.returncode == 0, first.stderr
        operator.runs = True
        with bundle.load() as calls:
            begun = time.monotonic()
            for number in range(1, STEPS + 1):
                command = chance.choice(COMMANDS)
                try:
                    command(operator)
                    operator.verify()
                except AssertionError as error:
                    pytest.fail(f"step {number}, {command.__name__}: {error}")
                print(
                    f"{number:3} {command.__name__:<15} {time.monotonic() - begun:6.0f} s, "
                    f"{calls():,} calls a client, {bundle.while_down} failed while all was down",
                    flush=True,
                )
    finally:
        bundle.clear()
    assert bundle.left() == ""
