"""What can be typed where no engine answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.operate.models.test_configured import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = Bundle(tmp_path)
    for number in (1, 2, 3):
        made.publish("mnist", number)
    return made


def test_without_a_server_one_goes_back_all_the_same(bundle: Bundle) -> None:
    said = bundle("rollback", "--why", "at night")
    assert said == "mnist: 2 is live as soon as `python -m deploy up` starts a server\n"
    assert bundle.listed()["mnist"]["labels"] == {"stable": 2}
    assert bundle.copy.read_bytes() == bundle.own.read_bytes()
    assert "mnist: 1 is live" in bundle("rollback")
    assert bundle("rollback", status=1).splitlines()[-1] == (
        "python -m deploy: mnist has no version to go back to from 1; on disk: 1, 2, 3"
    )
    assert (
        bundle("history").splitlines()[1].endswith("mnist  rollback  newest  2   done     at night")
    )


def test_labels_of_ones_own_stay_and_keep_their_versions(bundle: Bundle) -> None:
    bundle("models", "add", "price", status=1)
    own = 'version_labels { key: "beta" value: 1 }\n    model_version_policy { all {} }\n'
    bundle.own.parent.mkdir()
    text = bundle.shipped.read_text().replace('"tensorflow"\n', f'"tensorflow"\n    {own}')
    bundle.own.write_text(text)
    bundle("rollback")
    assert bundle.listed()["mnist"]["labels"] == {"beta": 1, "stable": 2}
    assert "specific { versions: 1 versions: 2 }" in bundle.own.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["promote", "3"], 1, "no server runs, so none can load and check the version"),
        (["promote", "7"], 2, "mnist has no version 7; there are 1, 2, 3"),
        (["promote", "x"], 2, "'x': expected a version number"),
        (["promote"], 2, "N --always-newest is required"),
        (["promote", "3", "--name", "price"], 2, "price is not configured; configured: mnist"),
        (["promote", "3", "--grace", "-1"], 2, "'-1': expected a duration, such as 90s, 10m or 1h"),
    ],
)
def test_what_is_refused_changes_nothing(
    arguments: list[str], status: int, told: str, bundle: Bundle
) -> None:
    assert told in bundle(*arguments, status=status).splitlines()[-1]
    assert not bundle.own.exists()
    assert "not ended" not in bundle("history")
    assert len(bundle("history").splitlines()) == 1


def test_of_several_models_one_has_to_be_named(bundle: Bundle) -> None:
    bundle.publish("price", 4)
    bundle.publish("price", 5)
    bundle("models", "add", "price")
    assert "there are 2 models: mnist, price; choose one with --name" in bundle(
        "rollback", status=2
    )
    assert "price: 4 is live" in bundle("rollback", "--name", "price")
    assert bundle.listed()["mnist"]["labels"] == {}
    assert len(bundle("history", "--name", "mnist").splitlines()) == 1


def test_beside_a_canary_nothing_else_is_released(bundle: Bundle) -> None:
    bundle.publish("price", 4)
    bundle("models", "add", "price")
    tried = bundle.own.with_name("canary.config")
    tried.write_text("5 mnist 3\n")
    told = "a canary sends some callers to version 3 of mnist; run `promote 3 --name mnist` or"
    for command in (
        ["promote", "2", "--name", "mnist"],
        ["promote", "4", "--name", "price"],
        ["promote", "--always-newest", "--name", "mnist"],
        ["canary", "4", "--percent", "5", "--name", "price"],
    ):
        assert told in bundle(*command, status=1)
    assert "a canary is under way" in bundle("models", "remove", "price", status=1)
    assert "mnist: 2 is live" in bundle("rollback", "--name", "mnist")
    assert not tried.exists()
