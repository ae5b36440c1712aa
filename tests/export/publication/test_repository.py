from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export.errors import InputError
from export.publication.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models", "mnist")


def _publish(repository: Repository, version: int | None = None, content: str = "x") -> int:
    with repository.staging() as staged:
        (staged / "variables").mkdir()
        (staged / "variables" / "data").write_text(content)
        return repository.publish(staged, version)


def _entries(repository: Repository) -> set[str]:
    return {path.name for path in repository.folder.iterdir()}


def test_numbers_count_up_from_1_and_gaps_stay(repository: Repository) -> None:
    assert [_publish(repository), _publish(repository, 7), _publish(repository)] == [1, 7, 8]
    assert sorted(repository.versions()) == [1, 7, 8]
    assert _entries(repository) == {"1", "7", "8", ".versions"}


def test_other_entries_are_no_versions(repository: Repository) -> None:
    repository.folder.mkdir(parents=True)
    for name in ("v3", "latest", ".tmp-9", "1.5"):
        (repository.folder / name).mkdir()
    assert repository.versions() == {}
    (repository.folder / "0042").mkdir()  # the server reads it as 42, and so must we
    assert _publish(repository) == 43


def test_an_existing_number_is_refused(repository: Repository) -> None:
    _publish(repository, 3, "first")
    with pytest.raises(InputError, match=r"--version 3: .*exists"):
        repository.check_is_new(3)
    with pytest.raises(InputError, match="exists"):
        _publish(repository, 3, "second")
    assert (repository.folder / "3" / "variables" / "data").read_text() == "first"


def test_a_number_is_never_given_twice(repository: Repository) -> None:
    _publish(repository)
    _publish(repository)
    (repository.folder / "2").rename(repository.folder.parent / "rolled back")
    with pytest.raises(InputError, match="was published and removed"):
        repository.check_is_new(2)
    assert _publish(repository) == 3


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_numbers_are_positive_and_fit_the_servers(repository: Repository, version: int) -> None:
    with pytest.raises(InputError, match="expected a positive 64-bit integer"):
        repository.check_is_new(version)


def test_after_the_highest_number_there_is_none(repository: Repository) -> None:
    _publish(repository, 2**63 - 1)
    with pytest.raises(InputError, match="expected a positive 64-bit integer"):
        _publish(repository)
    (repository.folder / str(2**64)).mkdir()  # the server does not see it
    assert sorted(repository.versions()) == [2**63 - 1]


def test_a_damaged_list_of_numbers_is_named(repository: Repository) -> None:
    _publish(repository)
    (repository.folder / ".versions").write_text("one\n")
    with pytest.raises(InputError, match=r"\.versions: 'one'; expected a version and a SHA-256"):
        _publish(repository)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", ".hidden"])
def test_names_that_a_server_cannot_serve_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        Repository(tmp_path, name)


def test_what_is_not_published_leaves_nothing(repository: Repository) -> None:
    def interrupted() -> None:
        with repository.staging() as staged:
            (staged / "half").write_text("written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not repository.folder.parent.exists()


def test_folders_that_were_there_stay(repository: Repository) -> None:
    repository.folder.mkdir(parents=True)
    with repository.staging():
        pass
    assert _entries(repository) == set()


def test_versions_are_readable_whatever_the_umask(repository: Repository) -> None:
    before = os.umask(0o077)
    try:
        _publish(repository)
    finally:
        os.umask(before)
    version = repository.folder / "1"
    for path in (version, *version.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_the_folder_above_is_readable_whatever_the_umask(repository: Repository) -> None:
    before = os.umask(0o077)
    try:
        _publish(repository)
    finally:
        os.umask(before)
    for folder in (repository.folder, repository.folder.parent):
        assert folder.stat().st_mode & 0o055 == 0o055


def test_a_killed_runs_staging_is_removed_by_the_next_and_a_living_ones_is_not(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from export.publication.repository import *\n"
        f"with Repository(Path({str(repository.folder.parent)!r}), 'mnist').staging():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = repository.folder.iterdir()
    with repository.staging() as living, repository.staging() as another:
        assert not left.exists()
        assert living.exists()
        assert another.exists()
    assert str(left) in capsys.readouterr().err


def test_two_at_once_get_different_numbers(repository: Repository) -> None:
    given: list[int] = []
    threads = [
        threading.Thread(target=lambda: given.append(_publish(repository))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 9))


def test_keep_removes_the_oldest(repository: Repository) -> None:
    (repository.folder / "0001").mkdir(parents=True)
    for _ in range(4):
        _publish(repository)
    assert repository.keep_newest(2, {5}) == [1, 2, 3]
    assert repository.keep_newest(9, {5}) == []
    assert _entries(repository) == {"4", "5", ".versions"}
    assert _publish(repository) == 6


def test_keep_spares_what_it_is_told_to(repository: Repository) -> None:
    _publish(repository, 7)
    _publish(repository, 3)
    assert repository.keep_newest(1, {3}) == []
    assert _entries(repository) == {"3", "7", ".versions"}


def test_publishing_where_locks_want_a_file_that_is_open_for_writing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where the lock of a folder is "Bad file descriptor"."""
    lock = fcntl.flock

    def nfs(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == 0:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", nfs)
    assert [_publish(repository) for _ in range(3)] == [1, 2, 3]
    assert repository.keep_newest(1, set()) == [1, 2]
    with repository.staging():  # removes nothing that lives, and leaves nothing
        with repository.staging() as another:
            assert another.is_dir()
    assert _entries(repository) == {"3", ".versions"}
    assert {path.name for path in (repository.folder / "3").iterdir()} == {
        "variables",
        "assets.extra",
    }


@pytest.mark.parametrize(
    ("name", "number"),
    [("00000000000000000004", 4), (" 6", 6), ("+5", 5), ("-3", -3), ("6 ", 6), ("0", 0)],
)
def test_names_are_read_by_the_servers_rule(repository: Repository, name: str, number: int) -> None:
    (repository.folder / name).mkdir(parents=True)
    assert repository.versions() == {number: repository.folder / name}
    assert _publish(repository) == max(0, number) + 1


@pytest.mark.parametrize("name", ["٣", "1_0", "- 3", "1.0", "9223372036854775808"])
def test_names_that_the_server_does_not_read(repository: Repository, name: str) -> None:
    (repository.folder / name).mkdir(parents=True)
    assert repository.versions() == {}


def test_keep_removes_links_and_files_and_leaves_nothing_behind(
    repository: Repository, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "saved_model.pb").write_text("x")
    for _ in range(5):
        _publish(repository)
    for number in (1, 2):
        shutil.rmtree(repository.folder / str(number))
    (repository.folder / "1").symlink_to(elsewhere, target_is_directory=True)
    (repository.folder / "2").write_text("no folder")
    (repository.folder / "0003").mkdir()  # the server's 3 as well
    (repository.folder / "9").write_text("no folder, and newer than all")
    assert repository.keep_newest(2, set()) == [1, 2, 3]
    assert _entries(repository) == {"4", "5", "9", ".versions"}
    assert (elsewhere / "saved_model.pb").exists()
