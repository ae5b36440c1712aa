"""The exporter's list of models, through changes of the file that the server reads."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deploy.exporter.models import Models


@pytest.mark.parametrize("text", ["model_config_list { config {", "\N{DIGIT ONE}", None])
def test_a_file_that_cannot_be_read_changes_nothing_and_is_told_once(
    text: str | None, models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.config"
    good = path.read_text()
    path.unlink()
    if text is not None:
        path.write_text(text)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            models.read()
            assert models.names == {"mnist", "second"}
            assert str(path) in models.wrong
    assert caplog.text.count(str(path)) == 1
    path.write_text(good)
    models.read()
    assert models.wrong == ""


def test_a_model_that_is_not_configured_any_more_is_remembered(
    models: Models, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    both = path.read_text()
    path.write_text('model_config_list { config { name: "mnist" base_path: "/models/mnist" } }')
    models.read()
    assert [model.name for model in models.configured] == ["mnist"]
    assert models.former == {"second"}
    assert models.names == {"mnist", "second"}
    path.write_text(both)
    models.read()
    assert models.former == set()
