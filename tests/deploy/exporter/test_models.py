"""Names of models, from the file that the server reads."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy.exporter.models import Models
from tests.deploy.conftest import ROOT

OURS = ROOT / "deploy" / "server" / "models.config"


@pytest.mark.parametrize("text", ["# nothing", "model_config_list {}", None])
def test_the_names_are_those_of_the_official_message(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(OURS.read_text() if text is None else text)
    official = text_format.Parse(path.read_text(), ModelServerConfig())
    models = Models(path)
    models.read()
    assert models.names == tuple(model.name for model in official.model_config_list.config)


def test_all_but_names_is_passed_over(models: Models) -> None:
    assert models.names == ("mnist", "second")


@pytest.mark.parametrize("text", ["model_config_list { config {", "\N{DIGIT ONE}", None])
def test_a_file_that_cannot_be_read_changes_nothing(
    text: str | None, models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.config"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with caplog.at_level(logging.WARNING):
        models.read()
    assert models.names == ("mnist", "second")
    assert str(path) in caplog.text
