"""What type checkers say to callers of the installed client."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

import tfserving_client
from tests.client.installing import environment, run, shared

_CALLER = Path(__file__).with_name("caller.py")

# Every line that says so is wrong, and no other.
_MISTAKEN = """
import numpy as np
from tfserving_client import AsyncDigitClient, DigitClient, Metadata, NotFound, Policy, State, Tls
from tfserving_client import AsyncServingClient, ServingClient
from tfserving_client.testing import FakeServer

images = np.zeros((2, 28, 28), np.uint8)

ServingClient("grpc://a")  # wrong
ServingClient("grpc://a", model="price", coalesce="yes")  # wrong
AsyncServingClient("grpc://a", "price")  # wrong

def any_model(serving: ServingClient) -> None:
    serving.predict()  # wrong
    serving.predict([1], "serving_default")  # wrong
    serving.predict([1], outputs=3)  # wrong
    serving.predict([1], raw="yes")  # wrong
    serving.predict({1: [2]})  # wrong
    serving.predict([1]).probabilities  # wrong
    serving.predict([1]).outputs["y"] = images  # wrong
    serving.predict_many(3)  # wrong
    for prediction in serving.predict_many([[1]], return_exceptions=True):
        prediction.outputs  # wrong
    serving.classify_examples({"age": 4})  # wrong
    serving.regress_examples([4])  # wrong

def synchronous(digits: DigitClient, metadata: Metadata) -> None:
    DigitClient(8500)  # wrong
    DigitClient("grpc://a", "mnist")  # wrong
    DigitClient("grpc://a", timeout="5")  # wrong
    DigitClient("grpc://a", policy=3)  # wrong
    DigitClient("grpc://a", coalesce="yes")  # wrong
    DigitClient("grpc://a", headers={"x-tenant": 1})  # wrong
    DigitClient("grpc://a", tls="ca.pem")  # wrong
    DigitClient("grpc://a", observe=print)  # wrong
    DigitClient("grpc://a", observe=lambda attempt: attempt.count)  # wrong
    DigitClient("grpc://a", retries=3)  # wrong
    digits.classify()  # wrong
    digits.classify(images, 3)  # wrong
    digits.classify(images, version="3")  # wrong
    digits.classify(images, label=3)  # wrong
    answer = digits.classify(images)
    answer.digits = images  # wrong
    answer.version + 1  # wrong
    answer.labels  # wrong
    digits.classify_many(3)  # wrong
    digits.classify_many([images], batch_size="many")  # wrong
    digits.classify_many([images], progress=lambda: None)  # wrong
    for item in digits.classify_many([images], return_exceptions=True):
        item.digits  # wrong
    digits.status(label="stable")  # wrong
    digits.wait_until_ready(5)  # wrong
    len(metadata.signatures["serving_default"].inputs["images"].shape)  # wrong
    State.READY  # wrong
    NotFound("no such model")  # wrong

async def asynchronous(digits: AsyncDigitClient) -> None:
    with digits:  # wrong
        pass
    (await digits.classify(images)).labels  # wrong
    digits.classify(images).digits  # wrong
    for answer in digits.classify_many([images]):  # wrong
        pass
    await digits.ready("3")  # wrong
    async for item in digits.classify_many([images], return_exceptions=True):
        item.digits  # wrong

async def any_model_awaited(serving: AsyncServingClient) -> None:
    serving.predict([1]).output  # wrong
    for prediction in serving.predict_many([[1]]):  # wrong
        pass

Policy(3)
Policy(attempts="3")  # wrong
Policy(retries=3)  # wrong
Policy().timeout = 5  # wrong
Tls(ca=b"-----BEGIN CERTIFICATE-----")  # wrong
FakeServer(versions={1: "AVAILABLE"})  # wrong
FakeServer().will_answer("7")  # wrong
FakeServer().will_fail(ValueError)  # wrong
FakeServer().will_answer(outputs=[1])  # wrong
FakeServer(signatures={"serving_default": "price"})  # wrong
"""

Errors = Mapping[str, Mapping[int, list[str]]]  # file → line → messages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caller's project: two files, and an environment with the client installed."""
    folder = tmp_path_factory.mktemp("typing")
    shutil.copy(_CALLER, folder / "caller.py")
    (folder / "mistaken.py").write_text(_MISTAKEN)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(shared(tmp_path_factory))


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def errors(request: pytest.FixtureRequest, folder: Path, python: Path) -> Errors:
    return _mypy(folder, python) if request.param == "mypy" else _pyright(folder, python)


def _mypy(folder: Path, python: Path) -> Errors:
    options = ["--strict", "--config-file=", f"--python-executable={python}", "--output=json"]
    checked = ["caller.py", "mistaken.py"]
    done = run(sys.executable, "-m", "mypy", *options, *checked, cwd=folder)
    assert done.returncode == 1, done.stderr
    assert not done.stderr
    errors: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if found["severity"] == "error":
            errors[found["file"]][found["line"]].append(found["message"])
    return errors


def _pyright(folder: Path, python: Path) -> Errors:
    settings = {"typeCheckingMode": "strict", "include": ["*.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", f"--pythonpath={python}", "--outputjson"]
    # Its version is the lock's; it need not look for a newer one.
    done = run(*command, cwd=folder, PYRIGHT_PYTHON_IGNORE_WARNINGS="1")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2
    errors: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for found in report["generalDiagnostics"]:
        file, line = Path(found["file"]).name, found["range"]["start"]["line"] + 1
        errors[file][line].append(found["message"])
    return errors


def test_the_caller_uses_every_public_name() -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(_CALLER.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "tfserving_client"
        for alias in node.names
    }
    assert imported == set(tfserving_client.__all__)


def test_right_uses_are_accepted(errors: Errors) -> None:
    assert not errors.get("caller.py")


def test_wrong_uses_are_refused(errors: Errors) -> None:
    lines = enumerate(_MISTAKEN.splitlines(), 1)
    wrong = {number for number, line in lines if re.search(r"# wrong$", line)}
    assert set(errors["mistaken.py"]) == wrong
