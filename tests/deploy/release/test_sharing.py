from __future__ import annotations

import itertools

import pytest

from deploy.release import sharing

NAMES = [f"caller-{number}" for number in range(200)]


def _chosen(version: int, percent: float, names: list[str] = NAMES) -> set[str]:
    text = sharing.text("mnist", version, percent, names)
    assert sharing.tried(text) == ("mnist", version)
    first, *lines = text.splitlines()
    assert float(first.split()[0]) == percent
    assert sorted(line.split()[0] for line in lines) == sorted(names)
    return {line.split()[0] for line in lines if line.endswith(" candidate")}


@pytest.mark.parametrize("percent", [0.5, 1, 5, 12.5, 50, 99])
def test_so_many_of_the_keys_as_the_share_says(percent: float) -> None:
    assert len(_chosen(2, percent)) == round(2 * percent)


def test_nobody_goes_back_as_the_share_grows() -> None:
    shares = [_chosen(2, percent) for percent in (1, 5, 25, 50)]
    assert all(less < more for less, more in itertools.pairwise(shares))


def test_another_canary_tries_others_first() -> None:
    assert _chosen(2, 5) != _chosen(3, 5)


def test_without_keys_only_the_share_is_said() -> None:
    assert sharing.text("mnist", 2, 5, []) == "5 mnist 2\n"
