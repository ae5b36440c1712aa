from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy.local import flags
from deploy.local.errors import ServingError
from deploy.local.models import config as model_config


def models(text: str) -> Any:
    return text_format.Parse(text, ModelServerConfig()).model_config_list.config


def check(listed: Any) -> None:
    model_config.check_names(listed)
    model_config.check_platforms(listed)
    model_config.check_logging(listed)


GOOD = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


def test_one_model_from_flags() -> None:
    config = model_config.read(flags.Flags(model_name="mnist", model_base_path="/models/mnist"))
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("mnist", "/models/mnist")
    check([model])


def test_several_models_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(f"model_config_list {{ config {{ {GOOD} }} }}")
    read = model_config.read(flags.Flags(model_config_file=str(file), model_base_path="/ignored"))
    assert [model.name for model in read.model_config_list.config] == ["m"]


def test_a_file_of_comments_means_no_models(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("# nothing")
    read = model_config.read(flags.Flags(model_config_file=str(tmp_path / "f")))
    assert not read.model_config_list.config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "NOT_FOUND: {path}; No such file or directory"),
        ("", "INVALID_ARGUMENT: {path}; Invalid argument"),
        ("nonsense", "INVALID_ARGUMENT: Invalid protobuf file: '{path}'"),
        ("model_config_list { config { nosuch: 1 } }", "Invalid protobuf file: '{path}'"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "models.config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ServingError) as caught:
        model_config.read(flags.Flags(model_config_file=str(path)))
    assert message.format(path=path) in str(caught.value)


def test_no_model_at_all() -> None:
    with pytest.raises(ServingError, match=r"Both server_options\.model_base_path and"):
        model_config.read(flags.Flags())


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ([GOOD, GOOD], "Illegal to list model m multiple times in config list"),
        (
            ['name: "m" base_path: "m" model_platform: "tensorflow"'],
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            ['name: "m" base_path: "/m"'],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
            " ModelServerConfig::model_platform, model name is m",
        ),
        (
            [GOOD + " model_type: TENSORFLOW"],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and"
            " ModelServerConfig::model_platform, model name is m",
        ),
        (
            ['name: "m" base_path: "/m" model_platform: "onnx"'],
            "Model m requests unsupported platform onnx",
        ),
        (
            ['name: "m" base_path: "/m" model_type: OTHER'],
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        ([GOOD + " logging_config {}"], "No request-logger-creator provided."),
    ],
)
def test_refused_lists(configs: list[str], message: str) -> None:
    listed = "".join(f"config {{ {config} }}" for config in configs)
    with pytest.raises(ServingError) as caught:
        check(models(f"model_config_list {{ {listed} }}"))
    assert caught.value.message == message


@pytest.mark.parametrize("base_path", ["/m", "file:///m", "gs://bucket/m"])
def test_accepted_paths(base_path: str) -> None:
    check(
        models(
            f'model_config_list {{ config {{ name: "m" base_path: "{base_path}"'
            " model_type: TENSORFLOW } }"
        )
    )


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("", {10}),
        ("latest { num_versions: 2 }", {9, 10}),
        ("latest { num_versions: 0 }", {10}),
        ("latest { num_versions: 9 }", {2, 9, 10}),
        ("all {}", {2, 9, 10}),
        ("specific { versions: 2 versions: 7 }", {2}),
        ("specific {}", set()),
    ],
)
def test_policies(policy: str, wanted: set[int]) -> None:
    (model,) = models(
        f"model_config_list {{ config {{ model_version_policy {{ {policy} }} }} }}"
        if policy
        else "model_config_list { config {} }"
    )
    assert model_config.wanted(model, {2, 9, 10}) == wanted
    assert model_config.wanted(model, set()) == set()
