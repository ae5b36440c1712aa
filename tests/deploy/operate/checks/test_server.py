from __future__ import annotations

from pathlib import Path

import pytest

from deploy.operate.checks import server
from deploy.operate.stack import served

FILES = served.read(served.SOURCE)
GOOD = FILES[served.MODELS].decode()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Versions 1, 2 and 10 of mnist."""
    for number in (1, 2, 10):
        version = tmp_path / "mnist" / str(number)
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_bytes(b"x")
    return tmp_path


def _problems(
    models: Path, text: str | bytes, name: str = served.MODELS, running: str = ""
) -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    found = server.problems({**FILES, name: content}, models, running.encode())
    return list(found)


def _with(*more: str) -> str:
    """The configuration with these lines in its model."""
    return GOOD.replace('"tensorflow"\n', '"tensorflow"\n' + "\n".join(more) + "\n")


SPECIFIC = "model_version_policy {{ specific {{ versions: {} versions: {} }} }}".format
LABEL = 'version_labels {{ key: "{}" value: {} }}'.format


def test_the_files_of_the_bundle_are_well(models: Path) -> None:
    assert _problems(models, GOOD) == []
    assert _problems(models, _with(SPECIFIC(1, 10), LABEL("stable", 1), LABEL("new", 10))) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "models.config: the file is missing or empty"),
        (b"\xff", "models.config: byte 0 is not UTF-8 text"),
        (GOOD + "}", "models.config:10: "),
        (
            GOOD.replace("base_path", "base_bath"),
            ':6: Message type "Model" has no field named',
        ),
        (GOOD.replace("/models/mnist", "/models/none"), "none holds no version: No such file"),
        (GOOD.replace("/models/mnist", "models/mnist"), "'models/mnist' is relative"),
        (
            GOOD.replace("/models/mnist", "/elsewhere"),
            "'/elsewhere' does not exist in the container",
        ),
        (GOOD.replace('"tensorflow"', '"pytorch"'), "exactly one model_platform"),
        (GOOD.replace("model_platform", "# "), "exactly one model_platform"),
        (_with("model_type: TENSORFLOW"), "exactly one model_platform"),
        (
            GOOD.replace('name: "mnist"', 'name: "a b"'),
            "'a b' is not a valid name: expected letters",
        ),
        (_with("logging_config { }"), "does not start with a logging_config"),
        (_with(SPECIFIC(1, 3)), "its policy names version 3, which is not in"),
        (_with(LABEL("stable", 3)), "label 'stable' names version 3, which is not in"),
        (_with(LABEL("stable", 2)), "label 'stable' names version 2, which its policy does not"),
        (_with(SPECIFIC("010", 2)), ":8: 010 begins with a zero: the server reads it as octal, 8"),
        (_with(SPECIFIC("08", 2)), ":8: 08 begins with a zero: the server reads it as no number"),
        ("custom_model_config { }", "custom_model_config is not supported"),
    ],
)
def test_what_is_wrong_is_one_sentence(models: Path, text: str | bytes, told: str) -> None:
    assert any(told in problem for problem in _problems(models, text)), _problems(models, text)
    assert all(
        problem.startswith("deploy/server/models.config") and "\n" not in problem
        for problem in _problems(models, text)
    )


def test_a_name_twice_is_told_once(models: Path) -> None:
    (model,) = [GOOD[GOOD.index("  config {") : GOOD.rindex("}")]]
    (told,) = _problems(models, GOOD.replace(model, model * 3))
    assert "more than one model 'mnist'" in told


def test_zeros_in_strings_comments_and_fractions_are_no_numbers(models: Path) -> None:
    text = _with(LABEL("010", 10), "# 010") + "# version 007"
    assert _problems(models, text) == []


@pytest.mark.parametrize("name", ["batching.config", "monitoring.config"])
@pytest.mark.parametrize("text", ["nonsense: 1", "{", ""])
def test_the_other_files_are_read_as_well(models: Path, name: str, text: str) -> None:
    (told,) = _problems(models, text, name)
    assert told.startswith(f"deploy/server/{name}:")


def test_batches_that_the_server_refuses(models: Path) -> None:
    (told,) = _problems(
        models, "max_batch_size { value: 9 } allowed_batch_sizes: 8", "batching.config"
    )
    assert "Last entry in allowed_batch_sizes must match max_batch_size" in told


def test_batches_of_a_version_that_the_server_refuses(models: Path) -> None:
    own = models / "mnist" / "10" / "batching_params.pbtxt"
    own.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 8")
    assert _problems(models, GOOD) == []
    for wrong, told in (("nonsense: 1", "pbtxt"), ("max_batch_size { value: -1 }", "positive")):
        own.write_text(wrong)
        (problem,) = _problems(models, GOOD)
        assert str(own) in problem
        assert told in problem
    assert _problems(models, _with(SPECIFIC(1, 2))) == []


def test_a_version_without_a_model_in_it(models: Path) -> None:
    (models / "mnist" / "11").mkdir()
    (told,) = _problems(models, GOOD)
    assert told.endswith("mnist/11 is not a version: it has no saved_model.pb")
    assert _problems(models, _with(SPECIFIC(1, 2))) == []


def test_a_label_moves_only_to_what_running_servers_serve(models: Path) -> None:
    running = _with(SPECIFIC(1, 2), LABEL("stable", 1))
    moved = _with(SPECIFIC(2, 10), LABEL("stable", 10))
    (told,) = _problems(models, moved, running=running)
    assert "label 'stable' moves to version 10, which is not served yet" in told
    assert _problems(models, moved) == []  # nothing runs
    assert _problems(models, _with(SPECIFIC(1, 2), LABEL("stable", 2)), running=running) == []


def test_a_bucket_is_not_looked_into(models: Path) -> None:
    assert _problems(models, GOOD.replace("/models/mnist", "gs://bucket/mnist")) == []
