"""`python -m export` as it is typed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from export.__main__ import main
from export.digits.training import network
from export.publication.serving_path import ServedModel
from tests.conftest import Version
from tests.forks import Fork


def _arguments(repository: Path, data: Path, *more: str) -> list[str]:
    """A run of a second or two."""
    given = [f"--repository={repository}", f"--data={data}", "--epochs=1", "--min-accuracy=0"]
    return [*given, "--recipe=reference", *more]


def _brought(repository: Path, model: Path, *more: str) -> list[str]:
    """A run of less, for what is one pipeline whatever is published."""
    return [f"--repository={repository}", f"--model={model}", "--name=mnist", *more]


def _run(
    repository: Path, data: Path, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *_arguments(repository, data, *more)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_version_is_published_and_its_path_is_the_last_line(
    tmp_path: Path, small_npz: Path
) -> None:
    done = _run(tmp_path / "models", small_npz)
    assert done.returncode == 0, done.stderr
    version = tmp_path / "models" / "mnist" / "1"
    assert done.stdout == f"{version}\n"
    assert "epoch   1/1" in done.stderr
    extra = {f"assets.extra/{name}" for name in
             ("golden.npz", "model_card.json", "tf_serving_warmup_requests", "SHA256SUMS",
              "curves.png", "confusion.png", "mistakes.png", "calibration.png")}  # fmt: skip
    assert extra | {"saved_model.pb"} < _tree(version)
    with ServedModel(version) as served:
        answers = served.run("serving_default", np.zeros((3, 28, 28), np.uint8))
    assert answers["probabilities"].shape == (3, 10)


def test_the_report_is_the_card_and_tells_all(
    tmp_path: Path, small_npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "models"
    more = ["--json", "--seed=5", "--name=digits", "--recipe=fast"]
    assert main(_arguments(repository, small_npz, *more)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["path"], report["version"]) == (str(repository / "digits" / "1"), 1)
    card = json.loads((repository / "digits/1/assets.extra/model_card.json").read_text())
    assert {key: report[key] for key in card} == card
    assert card["model"] == "digits"
    assert (card["data"]["name"], card["data"]["test"]) == ("small", 100)
    assert card["recipe"] == {"name": "fast", "epochs": 1, "seed": 5} | {
        "batch_size": card["recipe"]["batch_size"]
    }
    assert card["network"]["parameters"] == 109_386
    assert len(card["training"]["epochs"]) == 1
    assert 0 <= card["metrics"]["test_accuracy"] <= 1
    assert [row["digit"] for row in card["per_class"]] == list(range(10))
    assert sum(map(sum, card["confusion"])) == 100
    assert 0 <= card["calibration"]["expected_calibration_error"] <= 1
    assert card["signatures"]["serving_default"]["inputs"] == {
        "images": {"dtype": "uint8", "shape": [None, 28, 28]}
    }
    assert max(card["parity"].values()) <= 1e-5
    assert card["versions"]["tensorflow"].startswith("2.21.")
    assert card["compared_with"] is None


def test_the_reference_recipe(tmp_path: Path, small_npz: Path) -> None:
    arguments = _arguments(tmp_path, small_npz, "--recipe=reference", "--batch-size=16")
    assert main(arguments) == 0
    card = json.loads((tmp_path / "mnist/1/assets.extra/model_card.json").read_text())
    assert card["recipe"] == {"name": "reference", "epochs": 1, "batch_size": 16, "seed": 1}


def test_the_gate_refuses_and_leaves_nothing(
    tmp_path: Path, small_npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "models"
    assert main([*_arguments(repository, small_npz), "--min-accuracy=1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "not published: test accuracy is" in err.splitlines()[-1]
    assert not repository.exists()


def test_a_worse_version_is_refused_and_a_hint_of_regression_allowed(
    tmp_path: Path, small_npz: Path, published: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(published.path.parent, tmp_path / "mnist")
    before = _tree(tmp_path)
    worse = _arguments(tmp_path, small_npz, "--batch-size=300")
    assert main(worse) == 1
    assert "version 1 reaches" in capsys.readouterr().err.splitlines()[-1]
    assert _tree(tmp_path) == before
    assert main([*worse, "--max-regression=1", "--keep=1"]) == 0
    card = json.loads((tmp_path / "mnist/2/assets.extra/model_card.json").read_text())
    assert card["compared_with"]["version"] == 1
    assert card["compared_with"]["test_accuracy"] > card["metrics"]["test_accuracy"]
    assert not (tmp_path / "mnist" / "1").exists()


def test_a_newest_version_that_does_not_load_is_no_obstacle(
    tmp_path: Path, small_npz: Path
) -> None:
    (tmp_path / "mnist" / "4").mkdir(parents=True)
    assert main(_arguments(tmp_path, small_npz)) == 0
    assert (tmp_path / "mnist" / "5" / "saved_model.pb").exists()


def test_two_at_once_both_succeed_with_different_numbers(tmp_path: Path, small_model: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]
    runs = [Fork("export", _brought(tmp_path, small_model), output) for output in outputs]
    assert [run.wait() for run in runs] == [0, 0]
    paths = {output.read_text().splitlines()[-1] for output in outputs}
    assert paths == {f"{tmp_path / 'mnist' / number}" for number in "12"}


def test_keep_spares_what_the_servers_configuration_names(
    tmp_path: Path, small_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(_brought(tmp_path, small_model)) == 0
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "mnist" base_path: "/models/mnist" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    assert main(_brought(tmp_path, small_model, "--keep=1")) == 0
    assert sorted(path.name for path in (tmp_path / "mnist").glob("[0-9]*")) == ["1", "3"]
    assert "removed versions 2\n" in capsys.readouterr().err
    config.write_text("nonsense")
    assert main(_brought(tmp_path, small_model, "--keep=1")) == 0
    assert "old versions are not removed: " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "mnist").glob("[0-9]*")) == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--version=3"], "--version 3: "),
        (["--name=a/b"], "--name 'a/b'"),
        (["--data=nowhere"], "--data nowhere: no such file or folder"),
        (["--data=pyproject.toml"], "pyproject.toml is not a readable .npz"),
        (["--data=tests"], "neither train-images-idx3-ubyte nor"),
        (["--repository=/dev/null/models"], "/dev/null/models: Not a directory"),
        (["--repository=/proc/models"], "/proc/models: "),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    more: list[str],
    words: str,
    tmp_path: Path,
    small_npz: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mnist" / "3").mkdir(parents=True)
    assert main(_arguments(tmp_path, small_npz, *more)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err
    assert _tree(tmp_path) == {"mnist", "mnist/3"}


@pytest.mark.parametrize("level", ["", "3", "1"])
def test_tensorflows_import_writes_nothing_between_the_lines(level: str) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": level}
    if not level:
        del environment["TF_CPP_MIN_LOG_LEVEL"]
    command = [sys.executable, "-m", "export", "--json", "--data=digits", "--repository=/proc/none"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    _, starting, refusal = done.stderr.splitlines()
    assert starting.strip() == "starting TensorFlow"
    assert refusal.startswith("python -m export: /proc/none: ")


@pytest.mark.parametrize(
    "flag", ["--data=/none", "--data=tests", "--name=a/b", "--check=/none.keras", "--check=tests"]
)
def test_what_is_wrong_is_refused_before_tensorflow_is_started(flag: str) -> None:
    command = [sys.executable, "-m", "export", flag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (refusal,) = done.stderr.splitlines()
    assert refusal.startswith("python -m export: ")


def test_a_network_that_ends_in_logits_is_told_before_training(
    tmp_path: Path,
    small_npz: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    monkeypatch.setattr(network, "build", lambda: keras.Sequential(layers))
    assert main(_arguments(tmp_path / "models", small_npz)) == 2
    err = capsys.readouterr().err
    assert "the network ends in logits" in err.splitlines()[-1]
    assert "epoch" not in err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "flag",
    ["--version=0", "--version=x", f"--version={2**63}", "--epochs=0", "--epochs=9999999999",
     "--batch-size=-1", "--seed=1.5", "--seed=99999999999999999999", "--keep=0",
     "--min-accuracy=2", "--min-accuracy=nan", "--max-regression=x", "--recipe=magic", "--no"],
)  # fmt: skip
def test_bad_flags_are_status_2(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([flag])
    assert exit_.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_output_changes_nothing(tmp_path: Path, small_model: Path, closed: str) -> None:
    arguments = " ".join(_brought(tmp_path, small_model))
    command = f"{sys.executable} -m export {arguments} {closed}>&-"
    assert subprocess.run(command, shell=True, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "mnist" / "1" / "saved_model.pb").exists()


def test_full_outputs_change_nothing(tmp_path: Path, small_model: Path) -> None:
    run = Fork("export", _brought(tmp_path, small_model), Path("/dev/full"))  # both of them
    assert run.wait() == 0
    assert (tmp_path / "mnist" / "1" / "saved_model.pb").exists()


def test_an_interruption_that_a_library_swallows_still_counts(
    tmp_path: Path,
    small_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def swallow(*_: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("export.publication.warmup.write", swallow)
    assert main(_brought(tmp_path / "models", small_model)) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was published\n")
    assert not (tmp_path / "models").exists()


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of one's own, with the mount options given as parameter."""
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("mounted", "reason"),
    [
        ("size=400k", "No space left on device"),  # in the midst of the graph,
        ("size=900k", "No space left on device"),  # of the warm-up requests
        ("size=1300k", "No space left on device"),  # and of the pictures
        ("ro", "Read-only file system"),
    ],
    indirect=["mounted"],
)
def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing(
    mounted: Path, reason: str, small_npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(mounted / "models", small_npz)) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert _tree(mounted) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, small_npz: Path, number: signal.Signals
) -> None:
    output = tmp_path / "output"
    arguments = ["--epochs=100000", f"--repository={tmp_path / 'models'}", f"--data={small_npz}"]
    run = Fork("export", arguments, output)
    while "epoch" not in output.read_text():
        assert run.poll() is None
        time.sleep(0.05)
    assert any((tmp_path / "models" / "mnist").iterdir())
    run.send_signal(number)
    assert run.wait() == 130
    last = output.read_text().splitlines()[-1]
    assert last == "python -m export: interrupted; nothing was published"
    assert not (tmp_path / "models").exists()
