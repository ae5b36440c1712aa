from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.release import golden
from deploy.release.errors import Unreadable
from deploy.runner import Server, serve
from export.publication import card
from tests.conftest import Version
from tfserving_client import ServingClient

URLS: list[Callable[[Server], str]] = [lambda one: one.grpc_url, lambda one: one.rest_url]
PROTOCOLS = pytest.mark.parametrize("url", URLS, ids=["grpc", "rest"])


@pytest.fixture(scope="module")
def digits(published: Version) -> Iterator[Server]:
    with serve(published.path.parent) as server:
        yield server


@PROTOCOLS
def test_a_version_answers_as_it_was_published(
    published: Version, digits: Server, url: Callable[[Server], str]
) -> None:
    answers = golden.read(published.path)
    assert answers.keys() == published.report["signatures"].keys()
    with ServingClient(url(digits), model="mnist") as serving:
        assert golden.disagreements(serving, answers) == []
        assert golden.disagreements(serving, answers, version=1) == []
        found = golden.disagreements(serving, answers, version=7)
        assert len(found) == len(answers)
        assert "version 7" in found[0]


@PROTOCOLS
def test_each_difference_is_a_sentence(
    published: Version, digits: Server, url: Callable[[Server], str]
) -> None:
    right = golden.read(published.path)["serving_default"]
    probabilities = right.outputs["probabilities"]
    swapped, rows = probabilities[:, [1, 0, *range(2, 10)]], len(probabilities)
    numbers = probabilities.argmax(axis=1) + (np.arange(rows) < 3)

    def sentences(**outputs: Any) -> list[str]:
        wrong = golden.Answers(right.inputs, outputs, right.tolerance)
        with ServingClient(url(digits), model="mnist") as serving:
            return golden.disagreements(serving, {"serving_default": wrong})

    (found,) = sentences(probabilities=swapped, digits=probabilities.argmax(axis=1))
    assert found.startswith("signature serving_default: output probabilities differs in ")
    assert found.endswith(f" of {rows} rows, by up to 1; 1e-05 is allowed")
    assert sentences(digits=numbers) == [
        f"signature serving_default: output digits differs in 3 of {rows} rows, none may"
    ]
    assert sentences(digits=numbers[1:]) == [
        f"signature serving_default: output digits has shape ({rows},); expected ({rows - 1},)"
    ]
    assert "has no output 'digit'" in sentences(digit=numbers)[0]


def test_an_unknown_signature_or_input_and_a_server_that_is_gone(
    published: Version, digits: Server, closed_port: int
) -> None:
    right = golden.read(published.path)["serving_default"]
    renamed = golden.Answers({"image": right.inputs["images"]}, right.outputs, 1e-5)
    with ServingClient(digits.rest_url, model="mnist") as serving:
        (found,) = golden.disagreements(serving, {"serving_default": renamed})
        assert "has no input 'image'" in found
        (found,) = golden.disagreements(serving, {"other": right})
        assert "has no signature 'other'" in found
    with ServingClient(f"http://127.0.0.1:{closed_port}", model="mnist", timeout=0.5) as serving:
        (found,) = golden.disagreements(serving, {"serving_default": right})
        assert found.startswith("signature serving_default does not answer: the connection")


def test_examples_strings_and_scalars_are_asked_by_the_api_that_they_are_for(levels: Path) -> None:
    answers = golden.read(levels)
    assert answers["joined"].outputs["joined"].tolist() == [b"a\0!\0", b"!\0", b"\0b!\0"]
    wrong = {
        name: golden.Answers(
            one.inputs,
            {alias: array[::-1] for alias, array in one.outputs.items()},
            one.tolerance,
            one.method,
            one.examples,
        )
        for name, one in answers.items()
    }
    with serve(levels.parent) as server:
        for url in URLS:
            with ServingClient(url(server), model="levels") as serving:
                assert golden.disagreements(serving, answers) == []
                found = [
                    one.partition(" differs")[0] for one in golden.disagreements(serving, wrong)
                ]
                over_both = [
                    "signature classes: output scores",
                    "signature price: output outputs",
                    "signature joined: output joined",
                ]
                # JSON has no halves.
                of_half = ["signature half: output y"] * (url(server) == server.grpc_url)
                assert sorted(found) == sorted(over_both + of_half)


def _broken(folder: Path, how: str) -> None:
    path = folder / golden.PATH
    index = {"f": {"tolerance": 1e-5, "inputs": {"x": "x"}, "outputs": {"y": "y"}}}
    arrays: dict[str, Any] = {"x": np.ones(2), "y": np.ones(2), "index": json.dumps(index)}
    if how == "missing":
        path.unlink()
    elif how == "no zip":
        path.write_bytes(b"not a zip")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "pickled":
        np.savez(path, **arrays | {"y": np.array([{}], object)})
    elif how == "index":
        np.savez(path, **arrays | {"index": json.dumps([1])})
    elif how == "array":
        np.savez(path, **{name: array for name, array in arrays.items() if name != "y"})
    elif how == "lengths":
        np.savez(path, **arrays | {"y": np.array([b"a"])})
    elif how == "method":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("index.npy", b"x")
    elif how == "card":
        (folder / card.PATH).write_text("{}")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "golden.npz is missing, so there are no golden answers"),
        ("no zip", "File is not a zip file"),
        ("cut", "golden.npz holds no golden answers"),
        ("pickled", "allow_pickle=False"),
        ("index", "golden.npz holds no golden answers"),
        ("array", "KeyError: 'y'"),
        ("lengths", "KeyError: 'y/lengths'"),
        ("method", "not packed with a method that numpy uses"),
        ("card", "model_card.json is not a model card: KeyError: 'signatures'"),
    ],
)
def test_files_that_are_none_are_refused_in_a_sentence(
    published: Version, tmp_path: Path, how: str, told: str
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(published.path, folder)
    _broken(folder, how)
    with pytest.raises(Unreadable, match=told.replace(".", r"\.")):
        golden.read(folder)


def test_a_file_that_unpacks_to_more_than_is_read_is_refused(
    published: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(published.path / golden.PATH) as archive:
        size = sum(member.file_size for member in archive.infolist())
    monkeypatch.setattr(golden, "MOST_BYTES", size)
    assert golden.read(published.path)
    monkeypatch.setattr(golden, "MOST_BYTES", size - 1)
    with pytest.raises(Unreadable, match="unpacks to more than"):
        golden.read(published.path)


def test_a_file_without_a_card_is_asked_by_predict(published: Version, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(published.path, folder)
    (folder / card.PATH).unlink()
    assert {one.method for one in golden.read(folder).values()} == {""}
