"""`python -m deploy keys`: what is in the file, who can read it, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.commands import main
from tests.deploy.conftest import ROOT


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    monkeypatch.setenv("DEPLOY_SECRETS", str(folder))
    return folder


def _create(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["keys", "create", name]) == 0
    (key,) = capsys.readouterr().out.splitlines()
    return key


def _refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """The one line that a refusal is."""
    assert main(["keys", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_a_key_is_a_line_that_nginx_includes_in_a_map(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [_create(name, capsys) for name in ("alice", "job-7")]
    lines = (secrets / "gateway" / "keys.conf").read_text().splitlines()
    expected = [f'"{key}" {name};' for key, name in zip(keys, ("alice", "job-7"), strict=True)]
    assert [line.split(" # ")[0] for line in lines] == expected
    assert all(re.search(r" # created \d{4}-\d\d-\d\d$", line) for line in lines)
    for key in keys:
        # 128 random bits; an nginx map ignores case, so no letter may be told apart by it alone.
        assert re.fullmatch("dk_[0-9a-f]{32}", key)
    assert len(set(keys)) == 2


def test_only_the_owner_reaches_the_file_which_the_container_then_reads(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _create("alice", capsys)
    modes = {
        str(path.relative_to(secrets)): path.stat().st_mode & 0o777
        for path in (secrets, *secrets.rglob("*"))
    }
    mounted = {"alerting": 0o755, "gateway": 0o755}
    assert modes == {".": 0o700, **mounted, "gateway/keys.conf": 0o644}


def test_a_list_shows_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out == ""
    key = _create("alice", capsys)
    assert main(["keys", "list"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(rf"alice +\d{{4}}-\d\d-\d\d  …{key[-4:]}\n", out)
    assert key not in out


def test_the_hint_holds_the_key_only_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["keys", "create", "logged"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() not in captured.err
    assert "https://localhost:8443/#key=KEY\n" in captured.err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("GATEWAY_PORT", "9443")
    assert main(["keys", "create", "shown"]) == 0
    captured = capsys.readouterr()
    assert f"https://localhost:9443/#key={captured.out}" in captured.err


def test_a_revoked_key_is_gone_and_its_name_is_free(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, other = _create("alice", capsys), _create("bob", capsys)
    assert main(["keys", "revoke", "alice"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    text = (secrets / "gateway" / "keys.conf").read_text()
    assert old not in text
    assert other in text
    assert _create("alice", capsys) != old


@pytest.mark.parametrize(
    "name", ["", "Alice", "a b", "a;b", 'a"b', "ä", "a\n", "$key", "a" * 33, "a_b", "local"]
)
def test_a_name_that_nginx_or_a_log_could_not_hold_is_bad_input(
    name: str, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected 1 to 32" in _refused(capsys, 2, "create", name)
    assert not secrets.exists()


def test_a_second_key_of_one_name_and_an_unknown_name_are_refused(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _create("alice", capsys)
    before = (secrets / "gateway" / "keys.conf").read_text()
    assert "alice has a key; `python -m deploy keys rotate alice`" in _refused(
        capsys, 1, "create", "alice"
    )
    assert "bob has no key that works" in _refused(capsys, 1, "rotate", "bob")
    assert "no key is named 'bob'" in _refused(capsys, 1, "revoke", "bob")
    assert (secrets / "gateway" / "keys.conf").read_text() == before


def test_a_file_that_somebody_edited_is_left_alone(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _create("alice", capsys)
    path = secrets / "gateway" / "keys.conf"
    path.write_text(edited := path.read_text() + "default somebody;\n")
    for arguments in (["list"], ["create", "bob"], ["rotate", "alice"], ["revoke", "alice"]):
        assert f"{path}:2" in _refused(capsys, 1, *arguments)
    assert path.read_text() == edited


def test_a_folder_that_others_can_read_is_closed_to_them(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.mkdir(mode=0o755)
    _create("alice", capsys)
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_git_keeps_the_folders_and_nothing_in_them() -> None:
    for path in ("ca.key", "gateway/keys.conf", "gateway/server.key"):
        check = ["git", "check-ignore", "--quiet", f"deploy/secrets/{path}"]
        assert subprocess.run(check, cwd=ROOT, check=False).returncode == 0, path
    listed = ["git", "ls-files", "deploy/secrets"]
    kept = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert kept.split() == [
        "deploy/secrets/.gitignore",
        "deploy/secrets/alerting/.gitignore",
        "deploy/secrets/gateway/.gitignore",
    ]


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEPLOY_SECRETS", str(tmp_path / "file" / "secrets"))
    assert "Not a directory" in _refused(capsys, 1, "create", "alice")


def test_writers_at_the_same_time_lose_no_key(secrets: Path) -> None:
    names = [f"writer-{i}" for i in range(8)]
    command = [sys.executable, "-m", "deploy", "keys", "create"]
    writers = [
        subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in names
    ]
    made = {writer.communicate()[0].decode().strip() for writer in writers}
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    text = (secrets / "gateway" / "keys.conf").read_text()
    assert set(re.findall('"(.+)"', text)) == made
    assert sorted(re.findall('" (.+);', text)) == names


def _days_left(secrets: Path, key: str) -> float | None:
    """Until the key ends, as the file says it to the gateway."""
    (line,) = (
        line
        for line in (secrets / "gateway" / "keys.conf").read_text().splitlines()
        if line.startswith(f'"{key}"')
    )
    if not (found := re.fullmatch(r".* # created [0-9-]+, ends (\S+Z)", line)):
        assert "ends" not in line
        return None
    return (datetime.fromisoformat(found[1]) - datetime.now(UTC)) / timedelta(days=1)


def test_a_key_with_an_end_says_when(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "alice", "--days", "30"]) == 0
    captured = capsys.readouterr()
    assert _days_left(secrets, captured.out.strip()) == pytest.approx(30, abs=0.01)
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    assert f"alice can call now until {day}" in captured.err
    assert main(["keys", "list"]) == 0
    assert f"  until {day} " in capsys.readouterr().out


def test_a_rotated_key_goes_on_for_a_while_beside_the_new_one(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _create("alice", capsys)
    assert main(["keys", "rotate", "alice"]) == 0
    captured = capsys.readouterr()
    second = captured.out.strip()
    assert "the old key still works for 7 days" in captured.err
    assert _days_left(secrets, first) == pytest.approx(7, abs=0.01)
    assert _days_left(secrets, second) is None
    # Again: no key is given more time than it had.
    assert main(["keys", "rotate", "alice", "--overlap", "30", "--days", "90"]) == 0
    third = capsys.readouterr().out.strip()
    assert _days_left(secrets, first) == pytest.approx(7, abs=0.01)
    assert _days_left(secrets, second) == pytest.approx(30, abs=0.01)
    assert _days_left(secrets, third) == pytest.approx(90, abs=0.01)
    # And the next is good for as long as this one was.
    assert main(["keys", "rotate", "alice"]) == 0
    assert _days_left(secrets, capsys.readouterr().out.strip()) == pytest.approx(90, abs=0.01)
    assert main(["keys", "revoke", "alice"]) == 0
    assert (secrets / "gateway" / "keys.conf").read_text() == ""


def test_a_name_whose_key_has_ended_is_free(
    secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _create("alice", capsys)
    path = secrets / "gateway" / "keys.conf"
    path.write_text(path.read_text().replace("\n", ", ends 2026-01-31T12:00:00Z\n"))
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out.endswith("  expired 2026-01-31 12:00 UTC\n")
    assert "no key that works" in _refused(capsys, 1, "rotate", "alice")
    assert _create("alice", capsys) not in {"", old}
    assert old not in path.read_text()


@pytest.mark.parametrize("days", ["0", "-1", "3651", "1.5", "x", ""])
def test_days_are_whole_and_not_too_many(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["create", "alice"], ["rotate", "alice"]):
        with pytest.raises(SystemExit) as stopped:
            main(["keys", *arguments, f"--days={days}"])
        assert stopped.value.code == 2
        assert "expected a whole number of days from 1 to 3,650" in capsys.readouterr().err
