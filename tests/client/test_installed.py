"""The client as its users have it: from the wheel, with its own dependencies and no others."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import pytest

import tfserving_client
from tests.client.installing import PROJECT, environment, fetch, pip, run, shared, wheel

_SCRIPT = Path(__file__).with_name("round_trip.py")
_PROTOCOLS = ("grpc", "rest")
_IMPORTED = {
    "grpc": ["tfserving_client.grpc.messages", "google.protobuf", "grpc"],
    "rest": ["h11"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared(tmp_path_factory)


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    return environment(folder)


@pytest.fixture(scope="module")
def script(folder: Path) -> Path:
    """A copy, for Python puts a script's own folder on the path."""
    copy = folder / "script.py"
    shutil.copy(_SCRIPT, copy)
    return copy


def test_the_wheel_holds_the_client_its_types_and_no_tests(folder: Path) -> None:
    with zipfile.ZipFile(wheel(folder)) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
    package = PROJECT / "tfserving_client"
    sources = {str(path.relative_to(PROJECT)) for path in package.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {"tfserving_client/py.typed", f"{metadata.partition('/')[0]}/licenses/LICENSE"} <= names
    assert {name.partition("/")[0] for name in names} == {
        "tfserving_client", metadata.partition("/")[0],
    }  # fmt: skip
    assert fields["Version"] == tfserving_client.__version__
    bare = [need for need in fields.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert sorted(need.partition(">")[0] for need in bare) == [
        "grpcio", "h11", "numpy", "protobuf",
    ]  # fmt: skip


def test_its_dependencies_are_all_it_needs(folder: Path, python: Path) -> None:
    done = pip(folder, "--python", python, "check")
    assert done.returncode == 0, done.stdout
    code = """
import importlib.util
import sys, tfserving_client
assert tfserving_client.__file__.startswith(sys.prefix), tfserving_client.__file__
for name in ("PIL", "aiohttp", "keras", "requests", "tensorflow", "tests", "urllib3"):
    assert importlib.util.find_spec(name) is None, name
"""
    done = run(python, "-W", "error", "-c", code, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_it_costs_neither_protocol_nor_asyncio(folder: Path, python: Path) -> None:
    code = """
import json, sys
import tfserving_client as client
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
for name in client.__all__:
    getattr(client, name)
"""
    done = run(python, "-W", "error", "-c", code, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"asyncio", "google", "grpc", "h11", "http", "ssl"} & set(json.loads(done.stdout))


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_it_classifies_and_imports_only_the_protocol_that_is_used(
    folder: Path, python: Path, script: Path, protocol: str
) -> None:
    done = run(python, "-W", "error", script, protocol, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == _IMPORTED[protocol]


def test_its_command_explains_itself(folder: Path, python: Path) -> None:
    done = run(python, "-W", "error", "-m", "tfserving_client", "--help", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "classify" in done.stdout


_OURS = """
import numpy as np
from tfserving_client import CallContext
from tfserving_client.digits import images
from tfserving_client.grpc import messages, wire
"""
_TENSORFLOWS = """
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
"""
_BOTH = """
pixels = np.arange(784, dtype=np.uint8).reshape(28, 28)
context = CallContext("", "mnist", version=7, signature="serving_default")
ours = wire.GrpcWire().predict(context, images.prepare(pixels).inputs).body

theirs = predict_pb2.PredictRequest()
theirs.model_spec.name = "mnist"
theirs.model_spec.version.value = 7
theirs.model_spec.signature_name = "serving_default"
theirs.inputs["images"].CopyFrom(tf.make_tensor_proto(pixels[None]))
assert predict_pb2.PredictRequest.FromString(ours) == theirs
assert messages.PredictRequest.FromString(theirs.SerializeToString()).SerializeToString() == ours
"""


@pytest.mark.parametrize(
    "imports",
    [_OURS + _TENSORFLOWS, _TENSORFLOWS + _OURS],
    ids=["client first", "TensorFlow first"],
)
def test_it_works_beside_tensorflow_whoever_comes_first(folder: Path, imports: str) -> None:
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(wheel(folder)) as archive:
        archive.extractall(unpacked)
    code = imports + _BOTH
    done = run(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(unpacked))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "release", ["protobuf==5.*", "protobuf==6.*", "protobuf==7.*", "numpy==1.26.*", "numpy==2.*"]
)
def test_it_works_with_every_supported_release_of(
    folder: Path, python: Path, script: Path, release: str
) -> None:
    name, _, wanted = release.partition("==")
    if name == "numpy" and wanted < "2" and sys.version_info >= (3, 13):
        pytest.skip(f"numpy {wanted} has no wheel for Python 3.13")
    environment = {}
    if not version(name).startswith(wanted.removesuffix("*")):
        target = fetch(folder / release.removesuffix(".*"), "--no-deps", release)
        environment["PYTHONPATH"] = str(target)
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = run(python, "-c", code, cwd=folder, **environment)
    assert done.stdout.startswith(wanted.removesuffix("*"))
    for protocol in _PROTOCOLS:
        done = run(python, "-W", "error", script, protocol, cwd=folder, **environment)
        assert (done.returncode, done.stderr) == (0, ""), protocol


@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
def test_it_works_on_python(folder: Path, python: Path, script: Path, minor: str) -> None:
    if minor == f"3.{sys.version_info.minor}":
        environment = {}
    else:
        python = _python(minor)
        options = ("--python-version", minor, "--implementation", "cp")
        target = fetch(folder / f"python{minor}", *options, wheel(folder))
        environment = {"PYTHONPATH": str(target)}
    for protocol in _PROTOCOLS:
        done = run(python, "-W", "error", script, protocol, cwd=folder, **environment)
        assert (done.returncode, done.stderr) == (0, ""), protocol
        assert json.loads(done.stdout) == _IMPORTED[protocol]
    done = run(python, "-W", "error", "-m", "tfserving_client", "--help", cwd=folder, **environment)
    assert (done.returncode, done.stderr) == (0, "")


def _python(minor: str) -> Path:
    found = [
        shutil.which(f"python{minor}") or "",
        *Path.home().glob(f".pyenv/versions/{minor}.*/bin/python{minor}"),
        *Path.home().glob(f".local/share/uv/python/cpython-{minor}.*/bin/python{minor}"),
    ]
    for candidate in map(str, found):
        # pyenv's shims are on the path and may not work.
        if candidate and run(candidate, "--version", cwd=Path("/")).returncode == 0:
            return Path(candidate)
    pytest.skip(f"no Python {minor} on this machine")
