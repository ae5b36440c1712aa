"""`python -m deploy status` of bundles that no engine at hand would have."""

from __future__ import annotations

import json
import re
import shutil
from collections import ChainMap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import main
from deploy.operate.access import secret_files
from deploy.operate.errors import Refused
from deploy.operate.stack import engine, status
from tests.deploy.operate.fake_engine import fake_engine, json_server

pytestmark = pytest.mark.skipif(
    not shutil.which("docker"), reason="the `docker` command is not installed"
)
_NEVER = "0001-01-01T00:00:00Z"
FAILED = "NOT_FOUND: Could not find meta graph def"


def _container(
    name: str, state: Mapping[str, Any], ports: Mapping[str, int], folder: Path
) -> dict[str, Any]:
    service, _, number = name.rpartition("-")
    label = "com.docker.compose"
    return {
        "Id": name,
        "Config": {
            "Image": f"official/{service}:1",
            "Tty": True,  # its log is plain bytes
            "Labels": {f"{label}.service": service, f"{label}.container-number": number},
        },
        "State": {
            "Status": "running",
            "Running": True,
            "StartedAt": _ago(hours=3, minutes=5),
            "FinishedAt": _NEVER,
            **state,
        },
        "RestartCount": 0,
        "NetworkSettings": {
            "Ports": {
                f"{inside}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(outside)}]
                for inside, outside in ports.items()
            },
            # Nobody can be there: connecting to all at once is refused.
            "Networks": {"default": {"IPAddress": "255.255.255.255"}},
        },
        "Mounts": [
            {"Destination": f"/{mounted}", "Source": str(folder / mounted)}
            for mounted in ("config", "models")
        ],
    }


def _ago(**time: int) -> str:
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def _config(*lines: str, model: str = "mnist") -> str:
    text = f'name: "{model}" base_path: "/models/mnist" model_platform: "tensorflow" '
    return f"model_config_list {{ config {{ {text} {' '.join(lines)} }} }}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The server's models.config; versions 1 to 3 are on disk."""
    for number in ("1", "2", "3"):
        (tmp_path / "models" / "mnist" / number).mkdir(parents=True)
    path = tmp_path / "config" / "models.config"
    path.parent.mkdir()
    path.write_text(_config("model_version_policy { specific { versions: 1 } }"))
    return path


@pytest.fixture
def log() -> dict[str, str]:
    """What the replica that answers wrote lately, by the engine's path for it."""
    return {"/containers/serving-1/logs": "no problems"}


@pytest.fixture
def answer() -> dict[str, Any]:
    """What the server says of each model."""
    versions = [("2", "END", FAILED), ("1", "AVAILABLE", ""), ("0", "END", "")]
    return {
        "model_version_status": [
            {
                "version": version,
                "state": state,
                "status": {"error_code": "NOT_FOUND" if error else "OK", "error_message": error},
            }
            for version, state, error in versions
        ]
    }


@pytest.fixture
def bundle(
    log: dict[str, str],
    answer: dict[str, Any],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A replica that is well but out of reach, as behind Docker Desktop; one that never started,
    one that has ended.
    """
    monkeypatch.setenv("DEPLOY_SECRETS", str(tmp_path / "secrets"))
    assert config.exists()
    monkeypatch.setattr(status, "_TIMEOUT", 30)
    healthy = {"Health": {"Status": "healthy"}}
    never = {"Status": "created", "Running": False, "StartedAt": _NEVER}
    ended = {"Status": "exited", "Running": False, "FinishedAt": _ago(minutes=2)}
    with json_server(answer) as rest:
        containers = [
            _container("gateway-1", healthy, {"8443": 9443, "8501": rest}, tmp_path),
            _container("serving-1", healthy, {}, tmp_path),
            _container("serving-2", never, {}, tmp_path),
            _container("serving-3", ended, {}, tmp_path),
        ]
        answers: Mapping[str, Any] = {
            "/containers/json": [{"Id": one["Id"]} for one in containers],
            **{f"/containers/{one['Id']}/json": one for one in containers},
        }
        answers = ChainMap(log, dict(answers))
        with fake_engine(tmp_path / "docker.sock", answers) as host:
            monkeypatch.setenv("DOCKER_HOST", host)
            yield


@pytest.mark.usefixtures("bundle")
def test_a_replica_out_of_reach_is_asked_through_the_gateway(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["well"] is False
    _, served, never, _ = told["containers"]
    assert [one["version"] for one in served["versions"]] == [2, 1, 0]
    assert served["versions"][0]["error"] == FAILED
    assert (never["versions"], never["since"], never["state"]) == (None, None, "created")
    assert told["certificate"] is None


@pytest.mark.usefixtures("bundle")
def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "alice"]) == 0
    capsys.readouterr()
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["CONTAINER", "STATE", "FOR", "VERSIONS", "PORTS", "IMAGE"]
    assert lines[1][:4] == ["gateway-1", "healthy", "3", "h"]
    # What ended in peace is not told; the server lists it for ever.
    assert " ".join(lines[2]) == "serving-1 healthy 3 h 2 FAILED, 1 AVAILABLE official/serving:1"
    assert lines[3] == ["serving-2", "created", "official/serving:1"]
    assert lines[4] == ["serving-3", "exited", "2", "min", "official/serving:1"]
    assert "https://localhost:9443" in out
    assert ["keys", "1"] in lines
    assert "certificate  none: the gateway makes its own at each start" in out


@pytest.mark.usefixtures("bundle")
def test_secrets_that_cannot_be_read_hide_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["keys", "create", "alice"]) == 0
    for name in ("keys.conf", "server.pem"):
        (secret_files.gateway() / name).write_text("what is this")
    capsys.readouterr()
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "serving-1  healthy" in out
    assert re.search(r"^keys         .*/keys\.conf:1 is no line of", out, re.MULTILINE)
    assert re.search(r"^certificate  .*/server\.pem is not a certificate", out, re.MULTILINE)
    assert main(["status", "--json"]) == 1
    assert "is no line of" in json.loads(capsys.readouterr().out)["keys"]


@pytest.mark.usefixtures("bundle")
def test_a_model_without_a_version_that_answers_is_not_well_and_not_waited_for_longer(
    answer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answer["model_version_status"][1]["state"] = "LOADING"
    expected = ["version 1 of mnist is not served yet", "no version of mnist is AVAILABLE"]
    assert _trouble(capsys) == expected
    with engine.connect() as client, pytest.raises(Refused) as refused:
        status.settle(client, "digits", timeout=0)
    assert str(refused.value) == f"after 0 s serving-1: {'; '.join(expected)}"
    answer["model_version_status"][1]["state"] = "AVAILABLE"
    with engine.connect() as client:
        assert status.settle(client, "digits", timeout=60).rows


def _trouble(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the table says of the replica that answers."""
    assert main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("serving-1: ") for line in lines if line.startswith("serving-1: ")]


@pytest.mark.usefixtures("bundle")
def test_what_is_as_configured_is_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    assert _trouble(capsys) == []


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            _config("model_version_policy { latest { num_versions: 2 } }"),
            [
                f"version 2 of mnist failed to load: {FAILED}",
                "version 3 of mnist is not served yet",
            ],
        ),
        (_config(), ["version 3 of mnist is not served yet"]),
        ("model_config_list { config {", ["{config}:1:28 : "]),
        (_config('nmae: "x"'), ["{config}:1:"]),
    ],
)
def test_what_is_not_as_configured_is_told_and_not_well(
    text: str, expected: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(text)
    told = _trouble(capsys)
    assert len(told) == len(expected)
    for line, wanted in zip(told, expected, strict=True):
        assert line.startswith(wanted.replace("{config}", str(config))), line


@pytest.mark.usefixtures("bundle")
def test_only_a_version_that_is_to_be_served_matters(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the two replicas that do not run nothing is known, and the first says it is well."""
    config.write_text(_config("model_version_policy { all {} }"))
    assert len(_trouble(capsys)) == 2
    shutil.rmtree(config.parents[1] / "models" / "mnist" / "2")  # its failure is history
    assert _trouble(capsys) == ["version 3 of mnist is not served yet"]
    shutil.rmtree(config.parents[1] / "models" / "mnist" / "3")
    assert _trouble(capsys) == []


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    "refusal",
    [
        "Failed to read ModelServerConfig file: Invalid protobuf file: '/config/models.config'",
        "PollFilesystemAndReloadConfig failed to ReloadConfig: Request to assign label",
        "FileSystemStoragePathSource encountered a filesystem access error: Could not find base",
    ],
)
def test_what_the_server_refuses_is_told_in_its_own_words(
    refusal: str, log: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    log["/containers/serving-1/logs"] = f"2026-11-30 06:00:00: E server.cc:95] {refusal}"
    (told,) = _trouble(capsys)
    assert told.startswith(f"its log says: {refusal}")
