"""The server's list of models, as the official messages read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy import model_config
from deploy.local.models import config as local_config
from deploy.model_config import ConfigError
from tests.deploy.conftest import ROOT

OURS = ROOT / "deploy" / "server" / "models.config"
ALL = """
model_config_list {
  config {
    name: "mnist" base_path: "/models/mnist" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 010 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 8 }
  }
  config { name: 'a' base_path: "file:///models/a" model_type: TENSORFLOW
           model_version_policy { latest { num_versions: 3 } } }
  config { name: 'b' base_path: "/b" model_version_policy { all {} } }
  config { name: 'c' base_path: "/c" model_version_policy { latest {} } }
  config { name: 'd' base_path: "/d" model_version_policy {} }
}
"""


@pytest.mark.parametrize("text", ["# nothing", "model_config_list {}", ALL, None])
@given(on_disk=st.frozensets(st.integers(-3, 12)))
def test_it_is_read_as_the_official_message(
    text: str | None, on_disk: frozenset[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("config") / "models.config"
    path.write_text(OURS.read_text() if text is None else text)
    official = text_format.Parse(path.read_text(), ModelServerConfig()).model_config_list.config
    models = model_config.read(path)
    assert [model.name for model in models] == [model.name for model in official]
    for model, other in zip(models, official, strict=True):
        assert model.base_path == str(local_config.base_path(other))
        assert model.labels == dict(other.version_labels)
        assert model.wanted(on_disk) == local_config.wanted(other, on_disk)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_config_list { config {", ":1:"),
        ('model_config_list {\n config { nmae: "a" } }', ":2:11"),
        ("model_config_list { config { logging_config {} } }", "logging_config"),
        ("custom_model_config {}", "custom_model_config"),
        ("model_config_list { config { version_labels { value: 08 } } }", ":1:"),
        (ALL.replace("'a'", "'b'"), "'b' is listed more than once"),
        (b"\xff", "utf-8"),
        (None, "No such file"),
    ],
)
def test_what_the_server_refuses_is_an_error_that_says_where(
    text: str | bytes | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        model_config.read(path)
    assert str(caught.value).startswith(f"{path}:")
    assert says in str(caught.value)


def test_the_example_of_the_readme_serves_what_it_says() -> None:
    page = (ROOT / "deploy" / "README.md").read_text()
    (example,) = re.findall(r"^```\n(model_config_list .*?)^```$", page, re.M | re.S)
    (one,) = model_config.parsed(example, "README.md")
    assert (one.name, one.specific) == ("mnist", frozenset({1, 2}))
    assert one.labels == {"beta": 2}


def test_names_of_versions_are_the_servers(tmp_path: Path) -> None:
    for name in (
        "1",
        "007",
        "+5",
        "-3",
        " 6",
        "0" * 19 + "4",
        str(2**63),
        ".staging-9",
        "v2",
        "1.5",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    assert model_config.versions(tmp_path).keys() == {1, 7, 5, -3, 6, 4, 8}
    with pytest.raises(OSError, match="No such file"):
        model_config.versions(tmp_path / "nothing")
