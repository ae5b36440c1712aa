"""`python -m deploy verify`, on the server that the environment names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from deploy.commands import main
from tests.conftest import Version


class Outcome(NamedTuple):
    status: int
    said: str
    """The one line on standard error; "" without one."""
    report: Any
    """The JSON on standard output; None without one."""


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        try:
            status = main(["verify", "--json", *map(str, arguments)])
        except SystemExit as usage:
            status = int(str(usage.code))
        out, err = capsys.readouterr()
        return Outcome(status, err.strip(), json.loads(out) if out else None)

    return run


@pytest.fixture
def copied(published: Version, tmp_path: Path) -> Path:
    """A copy of the published digits, to be changed; named as one that is being published."""
    return Path(shutil.copytree(published.path, tmp_path / "mnist" / ".staging-x"))


Verify = Callable[..., Outcome]


def test_a_published_version_is_verified_and_measured(published: Version, verify: Verify) -> None:
    outcome = verify(f"--path={published.path}")
    assert outcome.status == 0, outcome.report
    assert outcome.said == ""
    report = outcome.report
    assert report["verified"]
    assert report["problems"] == []
    assert (report["model"], report["version"]) == ("mnist", 1)
    assert report["rows"].keys() == published.report["signatures"].keys()
    assert all(report["rows"].values())
    assert report["seconds"]["start"] > report["seconds"]["load"] > 0
    assert report["seconds"]["warm-up"] > 0
    assert report["memory"] > 50e6
    for protocol in ("gRPC", "REST"):
        row = report["latency"][protocol]
        assert row["calls"] >= 20
        assert 0 < row["p50"] <= row["p99"]
        assert row["first"] > 0


def test_the_newest_of_the_first_model_is_what_is_meant(
    published: Version, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELS", str(published.path.parents[1]))
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"version    {published.path}, as mnist 1"
    assert lines[-1] == "verdict    verified: it answers as published"


def test_strings_scalars_examples_and_halves(levels: Path, verify: Verify) -> None:
    outcome = verify(f"--path={levels}", "--name=price")
    assert outcome.status == 0, outcome.report
    assert outcome.report["model"] == "price"
    assert outcome.report["rows"] == {"classes": 5, "half": 2, "joined": 3, "price": 5}


def _swap_classes(folder: Path) -> None:
    """Exchange the classes 3 and 8 in the last layer's weights."""
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    order = [0, 1, 2, 8, 4, 5, 6, 7, 3, 9]
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
                tensor = tf.make_ndarray(node.attr["value"].tensor)
                if tensor.shape in {(64, 10), (10,)}:
                    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(tensor[..., order]))
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def _other_signature(folder: Path) -> None:
    path = folder / "assets.extra" / "model_card.json"
    card = json.loads(path.read_text())
    card["signatures"]["serving_default"]["inputs"]["images"]["dtype"] = "float32"
    path.write_text(json.dumps(card))


def _renamed_signature(folder: Path) -> None:
    path = folder / "assets.extra" / "model_card.json"
    path.write_text(path.read_text().replace('"packed"', '"squeezed"'))


def _bad_warm_up(folder: Path) -> None:
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(bytes(100))


def _no_model(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def _no_variables(folder: Path) -> None:
    shutil.rmtree(folder / "variables")


def _broken_golden(folder: Path) -> None:
    (folder / "assets.extra" / "golden.npz").write_bytes(b"none")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_swap_classes, "output probabilities differs in "),
        (
            _other_signature,
            "signature serving_default: input images is DT_UINT8 [n, 28, 28]; its card says "
            "DT_FLOAT [n, 28, 28] (over gRPC and REST)",
        ),
        (_renamed_signature, "signature squeezed is on its card, but is not served"),
        (_bad_warm_up, "it does not load: DATA_LOSS: "),
        (_no_model, "it does not load: NOT_FOUND: "),
        (_no_variables, "variables/variables.data-00000-of-00001 is missing"),
        (_broken_golden, "golden.npz holds no golden answers: BadZipFile"),
    ],
)
def test_what_is_not_as_it_was_published_is_refused_in_one_sentence(
    copied: Path, verify: Verify, change: Callable[[Path], None], told: str
) -> None:
    change(copied)
    outcome = verify(f"--path={copied}", "--name=mnist")
    assert outcome.status == 1
    assert outcome.said.count("\n") == 0
    assert outcome.said.startswith(f"python -m deploy: {copied} is refused: ")
    assert told in outcome.said
    assert not outcome.report["verified"]
    assert told in outcome.report["problems"][0]


def test_a_version_that_loads_and_lacks_its_variables_is_refused(
    levels: Path, tmp_path: Path, verify: Verify
) -> None:
    folder = Path(shutil.copytree(levels, tmp_path / "levels" / "2"))
    _no_variables(folder)
    outcome = verify(f"--path={folder}")
    assert outcome.status == 1
    assert "signature price does not answer: " in outcome.said
    assert "Could not find variable" in outcome.said


def test_without_golden_answers_only_who_says_so_lets_it_pass(copied: Path, verify: Verify) -> None:
    shutil.rmtree(copied / "assets.extra")
    outcome = verify(f"--path={copied}", "--name=mnist")
    assert outcome.status == 1
    assert "it has no assets.extra/golden.npz, so there are no golden answers" in outcome.said
    outcome = verify(f"--path={copied}", "--name=mnist", "--without-golden")
    assert outcome.status == 0
    assert set(outcome.report["rows"].values()) == {None}
    assert outcome.report["latency"] == {}


def test_files_beside_those_that_were_published_are_no_concern(
    copied: Path, verify: Verify
) -> None:
    (copied / "batching_params.pbtxt").write_text("max_batch_size { value: 8 }")
    assert verify(f"--path={copied}", "--name=mnist").status == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["7"], "has no version 7; there are 1"),
        (["--name=none"], "none: No such file or directory"),
        (["--name=../mnist"], "'../mnist' is not a valid name"),
        (["1", "--path=/tmp"], "N and --path are given"),
        (["--path=/none/1"], "/none/1 is not a folder"),
        (["x"], "'x': expected a version number"),
    ],
)
def test_bad_usage(
    published: Version,
    monkeypatch: pytest.MonkeyPatch,
    verify: Verify,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.setenv("MODELS", str(published.path.parents[1]))
    outcome = verify(*arguments)
    assert (outcome.status, outcome.report) == (2, None)
    assert told in outcome.said


def test_no_server_is_no_verdict(
    published: Version, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    monkeypatch.delenv("SERVING_IMAGE", raising=False)
    monkeypatch.setenv("SERVING_BINARY", "/none/tensorflow_model_server")
    outcome = verify(f"--path={published.path}")
    assert (outcome.status, outcome.report) == (2, None)
    assert "/none/tensorflow_model_server cannot be started: No such file" in outcome.said


def test_in_a_container(
    stand_in: str, copied: Path, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    monkeypatch.setenv("SERVING_IMAGE", stand_in)
    outcome = verify(f"--path={copied}", "--name=mnist")
    assert outcome.status == 0, outcome
    assert outcome.report["server"] == stand_in
    assert outcome.report["memory"] > 50e6
    _bad_warm_up(copied)
    outcome = verify(f"--path={copied}", "--name=mnist")
    assert outcome.status == 1
    assert "it does not load: DATA_LOSS: " in outcome.said
    monkeypatch.setenv("SERVING_IMAGE", "digits-serving/none:test")
    outcome = verify(f"--path={copied}", "--name=mnist")
    assert (outcome.status, outcome.report) == (2, None)
    assert "digits-serving/none:test cannot be started: " in outcome.said
