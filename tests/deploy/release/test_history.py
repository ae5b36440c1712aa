from __future__ import annotations

from pathlib import Path

import pytest

from deploy.release import history

LOG = history.Machine()


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "releases.jsonl"
    monkeypatch.setattr(history, "FILE", path)
    return path


def _released(action: str, before: int | None, to: int | None, outcome: str = history.DONE) -> None:
    history.end(LOG, history.begin(LOG, "mnist", action, before, to, ""), outcome)


def test_who_when_what_why_and_how_it_went() -> None:
    assert history.read(LOG) == []
    entry = history.begin(LOG, "mnist", "promote", 1, 2, "November's data")
    assert [one.outcome for one in history.read(LOG, "mnist")] == [""]
    history.end(LOG, entry, "refused: too slow")
    history.begin(LOG, "price", "rollback", 4, 3, "")
    first, second = history.read(LOG)
    assert (first.before, first.to, first.why) == (1, 2, "November's data")
    assert first.outcome == "refused: too slow"
    assert "@" in first.who
    assert first.at.endswith("+00:00")
    assert history.read(LOG, "price") == [second]
    titles, one, other = history.lines([first, second])
    assert titles.split() == ["WHEN", "WHO", "MODEL", "WHAT", "FROM", "TO", "OUTCOME", "WHY"]
    assert one.endswith("mnist  promote   1     2   refused: too slow  November's data")
    assert other.endswith("price  rollback  4     3   not ended")


def test_lines_are_only_ever_added_and_one_that_is_cut_costs_no_other(file: Path) -> None:
    _released("promote", 1, 2)
    before = file.read_bytes()
    file.write_bytes(before + b'{"id": "cut of')
    _released("promote", 2, 3)
    assert file.read_bytes().startswith(before)
    assert [one.to for one in history.read(LOG)] == [2, 3]


@pytest.mark.parametrize(
    ("releases", "live", "before"),
    [
        ([], 3, None),
        ([("promote", None, 1)], 1, None),
        ([("promote", 1, 2)], 2, 1),
        ([("promote", 1, 2), ("promote", 2, 3)], 3, 2),
        ([("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2)], 2, 1),
        ([("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2), ("rollback", 2, 1)], 1, None),
        # An older one that is promoted on purpose is no way back from.
        ([("promote", 1, 2), ("promote", 2, 3), ("promote", 3, 1)], 1, 3),
        ([("promote", 1, 2), ("promote", 2, 2)], 2, 1),
        ([("promote", 1, 2), ("promote", 2, 3, "refused: no")], 2, 1),
        # Somebody let the newest be live for a while, and 5 came.
        ([("promote", 1, 2), ("promote", 2, None), ("promote", 5, 6)], 6, 5),
        ([("rollback", 4, 3)], 3, None),
    ],
)
def test_what_was_live_before(
    releases: list[tuple[str, int | None, int]], live: int, before: int | None
) -> None:
    for release in releases:
        _released(*release)
    assert history.live_before(LOG, "mnist", live) == before
    assert history.live_before(LOG, "price", live) is None
