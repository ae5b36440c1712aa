"""`python -m deploy models` in a checkout of its own, where no engine answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import checkout

GIT = "git", "-c", "user.name=a", "-c", "user.email=a@b"


class Bundle:
    """A checkout, and its command."""

    def __init__(self, folder: Path) -> None:
        self.root = checkout(folder / "checkout")
        self.models = self.root / "models"
        self.own = self.root / "deploy" / "machine" / "server" / "models.config"
        self.shipped = self.root / "deploy" / "server" / "models.config"
        self.copy = self.root / "deploy" / "machine" / "config" / "models.config"

    def publish(self, name: str, number: int = 1) -> Path:
        version = self.models / name / str(number)
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_bytes(b"x")
        return version

    def __call__(self, *arguments: str, status: int = 0, **changed: str) -> str:
        """What it says; all of it if it fails, without a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "DOCKER_HOST": "unix:///none"}
            | changed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 and done.stdout else done.stderr

    def listed(self) -> dict[str, dict[str, object]]:
        return {row["name"]: row for row in json.loads(self("models", "--json"))["models"]}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


def test_a_model_is_added_listed_and_removed_without_a_change_of_the_bundles_files(
    bundle: Bundle,
) -> None:
    subprocess.run([*GIT, "init", "-q", bundle.root], check=True)
    for command in (["add", "-A"], ["commit", "-qm", "bundle"]):
        subprocess.run([*GIT, *command], cwd=bundle.root, check=True)
    bundle.publish("mnist", 1)
    bundle.publish("mnist", 2)
    bundle.publish("price", 7)
    lines = bundle("models").splitlines()
    assert [line.split()[0] for line in lines] == ["MODEL", "mnist", "price"]
    assert lines[1].split()[1:] == ["/models/mnist", "1,", "2", "–"]
    assert "not configured: python -m deploy models add price" in lines[2]

    assert "`python -m deploy up` serves it" in bundle("models", "add", "price")
    assert bundle.copy.read_bytes() == bundle.own.read_bytes()
    assert bundle.own.read_text().startswith(bundle.shipped.read_text().rpartition("}")[0])
    settings = (bundle.root / "deploy" / "machine" / ".env").read_text()
    assert "SERVER_CONFIG=./machine/config" in settings
    assert bundle.listed()["price"] == {
        "name": "price",
        "base_path": "/models/price",
        "on_disk": [7],
        "labels": {},
        "served": None,
    }

    own = bundle.own.read_text()
    label = '\n    version_labels { key: "stable" value: 2 }  # ours'
    bundle.own.write_text(own.replace('"/models/mnist"', '"/models/mnist"' + label))
    bundle("models", "remove", "price")
    assert bundle.own.read_text() == bundle.shipped.read_text().replace(
        '"/models/mnist"', '"/models/mnist"' + label
    )
    assert bundle.listed()["mnist"]["labels"] == {"stable": 2}
    assert (bundle.models / "price" / "7").exists()
    changed = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=bundle.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""


def test_the_bundles_own_model_is_left_out_where_it_was_never_made(bundle: Bundle) -> None:
    bundle.publish("price")
    assert "mnist is left out: it has no version on this machine" in bundle(
        "models", "add", "price"
    )
    assert [*bundle.listed()] == ["price"]
    # A model of one's own is not: what became of it?
    bundle.publish("other")
    bundle("models", "add", "other")
    (bundle.models / "price" / "1" / "saved_model.pb").unlink()
    (bundle.models / "price" / "1").rmdir()
    bundle.publish("third")
    assert "price holds no version" in bundle("models", "add", "third", status=1)
    bundle("models", "remove", "price")
    assert [*bundle.listed()] == ["other", "third"]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["add", "a b"], 2, "'a b' is not a valid name: expected letters, digits, '_', '.', '-'"),
        (["add", "../x"], 2, "'../x' is not a valid name"),
        (["add", "mnist"], 1, "mnist is configured already, in "),
        (["add", "none"], 1, "holds no version: No such file or directory; publish one with"),
        (
            ["add", "x", "--path", "/"],
            2,
            "the only folder that servers read; move it there, or",
        ),
        (["add", "x", "--path", "/models/none"], 1, "none holds no version"),
        (["remove", "x"], 1, "x is not configured; configured: mnist"),
        (["remove", "mnist"], 1, "mnist is the only model"),
    ],
)
def test_what_is_refused_changes_nothing(
    arguments: list[str], status: int, told: str, bundle: Bundle
) -> None:
    bundle.publish("mnist")
    assert told in bundle("models", *arguments, status=status).splitlines()[-1]
    assert not bundle.own.exists()
    assert not bundle.copy.exists()


@pytest.mark.parametrize(
    ("path", "base_path"),
    [
        ("models/group/price", "/models/group/price"),
        ("/models/group/price", "/models/group/price"),
        ("models/../models/group/price/", "/models/group/price"),
        ("s3://bucket/price", "s3://bucket/price"),
    ],
)
def test_a_folder_of_another_name(path: str, base_path: str, bundle: Bundle) -> None:
    bundle.publish("mnist")
    bundle.publish("group/price")
    bundle("models", "add", "price", "--path", path)
    row = bundle.listed()["price"]
    assert row["base_path"] == base_path
    assert row["on_disk"] == (None if ":" in base_path else [1])


def test_the_last_of_several_that_are_broken_can_be_removed(bundle: Bundle) -> None:
    for name in ("mnist", "price", "other"):
        bundle.publish(name)
    for name in ("price", "other"):
        bundle("models", "add", name)
    handed = bundle.copy.read_text()
    for name in ("price", "other"):
        (bundle.models / name / "1").rename(bundle.models / name / "broken")
    assert "other holds no version" in bundle("models", "remove", "price", status=1)
    assert bundle.copy.read_text() == handed
    bundle("models", "remove", "other")
    assert bundle.copy.read_text() == bundle.own.read_text() == bundle.shipped.read_text()


def test_what_is_wrong_is_told_where_it_is_written(bundle: Bundle) -> None:
    bundle.publish("mnist")
    bundle.publish("price")
    bundle("models", "add", "price")
    bundle.own.write_text(bundle.own.read_text() + "}")
    told = bundle("models", "add", "other", status=1)
    assert "deploy/machine/server/models.config:" in told
