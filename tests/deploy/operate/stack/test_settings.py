from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.operate.errors import InputError
from deploy.operate.stack import settings
from tests.deploy.conftest import checkout


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / ".env"
    monkeypatch.setattr(settings, "FILE", path)
    for name in settings.names():
        monkeypatch.delenv(name, raising=False)
    return path


def test_the_names_are_those_that_the_compose_files_read() -> None:
    assert settings.names() >= {
        *("SERVING_DEVICE", "SERVING_REPLICAS", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"),
        *("TFS_IMAGE", "NGINX_IMAGE", "GATEWAY_PORT", "GRPC_PORT", "REST_PORT", "GATEWAY_ADDRESS"),
        *("MODELS", "DEPLOY_SECRETS", "KEY_RATE", "SERVING_MEMORY", "SERVER_CONFIG"),
    }


def test_what_is_written_is_read_and_the_rest_of_the_file_stays(file: Path) -> None:
    file.write_text("# mine\nOTHER=1\nKEY_RATE=5\n\nREST_PORT = 1\n")
    decided = {"MODELS": "/data/my models", "REST_PORT": "8601"}
    settings.write(decided)
    assert settings.read() == {**decided, "OTHER": "1"}
    assert file.read_text().startswith("# mine\nOTHER=1\n\n")
    settings.write({})
    assert settings.read() == {"OTHER": "1"}


def test_the_environment_goes_first_even_if_it_is_empty(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("KEY_RATE=5\nREST_PORT='1'\nGRPC_PORT=2 # two\n")
    monkeypatch.setenv("KEY_RATE", "")
    monkeypatch.setenv("REST_PORT", "9")
    settings.load()
    found = [os.environ[name] for name in ("KEY_RATE", "REST_PORT", "GRPC_PORT")]
    monkeypatch.delenv("GRPC_PORT")
    assert found == ["", "9", "2"]


@pytest.mark.parametrize("value", ["it's", "two\nlines"])
def test_a_value_that_no_line_can_hold(value: str) -> None:
    with pytest.raises(InputError, match="MODELS="):
        settings.write({"MODELS": value})


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("value", ["/a b/c", "/a#b", "/a $HOME/c", "/a\\b", '/a"b"', "/ä"])
def test_compose_reads_what_is_written(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = checkout(tmp_path / "checkout")
    monkeypatch.setattr(settings, "FILE", root / "deploy" / "machine" / ".env")
    settings.write({"MODELS": value, "SERVING_REPLICAS": "3", "COMPOSE_PROJECT_NAME": "another"})
    assert settings.read()["MODELS"] == value
    done = subprocess.run(
        ["docker", "compose", "config", "--format=json"],
        cwd=root,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    config = json.loads(done.stdout)
    assert config["name"] == "another"
    serving = config["services"]["serving"]
    assert serving["scale"] == 3
    (models,) = [one["source"] for one in serving["volumes"] if one["target"] == "/models"]
    assert models == value.replace("$", "$$")  # as Compose writes a dollar sign
