"""Export is killed at 100 random instants while a reader looks every millisecond, as a server may.

What could go wrong lies in the last hundredths of a run. So 10 whole runs are killed, of a model
that is brought, for training writes nothing, and 90 that only publish a candidate; each anywhere
from its first to its last instant.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.publication import manifest
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel
from export.verify import main as verify
from tests.conftest import Version

# Each run is a fork of one process, so that none has to import TensorFlow anew.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
what, root, source, kills = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

if what == "publish":
    import shutil
    from export.publication.repository import Repository

    def run():
        repository = Repository(root, "mnist")
        with repository.staging() as staged:
            shutil.copytree(source, staged, dirs_exist_ok=True)
            repository.publish(staged, None)
else:
    import export.models.candidate
    from export.publication import pipeline
    from export.__main__ import main

    def run():
        main([f"--repository={root}", f"--model={source}", "--name=mnist"])

def start():
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    return child

started = time.monotonic()
assert os.waitpid(start(), 0)[1] == 0
duration = time.monotonic() - started
randomness = random.Random(0)
for _ in range(kills):
    child = start()
    time.sleep(randomness.uniform(0, 1.1 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@contextlib.contextmanager
def _reader(repository: Repository) -> Iterator[dict[int, list[str]]]:
    """Looks every millisecond; number → what was wrong with the version when it was first seen."""
    seen: dict[int, list[str]] = {}
    stop = threading.Event()

    def look() -> None:
        is_over = False
        while not is_over:
            is_over = stop.wait(0.001)  # after the end, too
            for number, folder in repository.versions().items():
                if number not in seen:
                    digest = repository.digests().get(number, "")
                    seen[number] = manifest.differences(folder, digest)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def candidate(published: Version, tmp_path: Path) -> Path:
    """A version as it lies in staging."""
    folder = tmp_path / "candidate"
    shutil.copytree(published.path, folder)
    (folder / manifest.PATH).unlink()
    return folder


@pytest.mark.parametrize(("what", "kills"), [("export", 10), ("publish", 90)])
def test_a_kill_at_any_instant_leaves_a_whole_version_or_none(
    what: str, kills: int, tmp_path: Path, candidate: Path, small_model: Path
) -> None:
    repository = Repository(tmp_path / "models", "mnist")
    source = candidate if what == "publish" else small_model
    command = [sys.executable, "-c", KILLS, what, str(tmp_path / "models"), str(source)]
    with _reader(repository) as seen:
        done = subprocess.run([*command, str(kills)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert set(seen) == set(repository.versions())
    assert 1 in seen
    assert not any(seen.values()), seen
    for folder in repository.versions().values():
        with ServedModel(folder) as served:
            answer = served.run("serving_default", np.zeros((1, 28, 28), np.uint8))
        assert answer["probabilities"].shape == (1, 10)
    with repository.staging() as staged:  # clears what the killed ones left
        assert [path.name for path in staged.parent.glob(".staging-*")] == [staged.name]
    assert verify([f"--repository={tmp_path / 'models'}"]) == 0
