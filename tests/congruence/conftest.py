from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.runner import Server as ProjectServer
from deploy.runner import serve
from tests.conftest import Version, once
from tests.congruence import models as saved_models
from tests.congruence.cases import SETUPS, STORIES
from tests.congruence.stage import Stage


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(root: Path) -> str:
        saved_models.make(root)
        return str(root)

    return Path(once(tmp_path_factory, "congruence", make))


@pytest.fixture(scope="module")
def stage(
    models: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Begins what the module's selected tests will ask for."""
    asked: dict[str, None] = {}
    told: set[str] = set()
    for item in request.session.items:
        if item.path != request.path:
            continue
        given = getattr(item, "callspec", None)
        if given and "case" in given.params:
            asked[given.params["case"]["setup"]] = None
        if given and "story" in given.params:
            told.add(given.params["story"]["id"])
    stage = Stage(models, tmp_path_factory.mktemp("servers").resolve(), SETUPS, asked)
    try:
        stage.begin(story for story in STORIES if story["id"] in told)
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="session")
def project(published: Version) -> Iterator[ProjectServer]:
    """The project's own model, served."""
    with serve(published.path.parent) as server:
        yield server
