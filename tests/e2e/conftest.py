from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.runner import Server, serve
from tests.conftest import Version


@pytest.fixture(scope="session")
def server(published: Version) -> Iterator[Server]:
    """The published version, served by whichever server the environment names."""
    with serve(published.path.parent) as server:
        yield server
