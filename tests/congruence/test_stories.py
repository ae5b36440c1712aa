"""Versions that come and go, configurations that change. They began with the first test."""

from __future__ import annotations

import pytest

from tests.congruence.cases import STORIES, Case
from tests.congruence.deviations import marks
from tests.congruence.stage import Stage


@pytest.mark.parametrize(
    "story", [pytest.param(story, id=story["id"], marks=marks(story["id"])) for story in STORIES]
)
def test_story(story: Case, stage: Stage) -> None:
    if what := stage.outcome(story["id"]):
        pytest.fail(what, pytrace=False)
