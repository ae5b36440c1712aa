"""The house: which room may know which. CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Package → its rooms, from the ground up: each may import those before it. A module that stands in
# the package itself is a room, too.
HOUSES = {
    "tfserving_client": (
        "causes",
        "errors results",
        "call",
        "tensors",
        "grpc rest",
        "serving",
        "digits",
        "testing",
        "command",
        "__main__",
    ),
    "deploy": (
        "environment server_messages",
        "model_config runner",
        "served",
        "local exporter",
        "operate",
        "release",
        "commands",
        "demo",
        "__main__",
    ),
    "deploy.operate": (
        "command_line errors interrupts",
        "access",
        "cluster stack",
        "checks",
        "models",
        "commands",
    ),
    "deploy.release": (
        "errors load measures replicas shadow sharing state verdict",
        "card service",
        "capacity golden history sides",
        "capacity_report place requests tune verify",
        "compare",
        "checks cluster machine tune_report",
        "canary",
        "promotion",
        "commands trials",
    ),
    "deploy.local": (
        "errors flags lean_tensorflow prometheus varint",
        "metrics tensors text_files",
        "models",
        "batching handlers",
        "grpc rest",
        "server",
        "__main__",
    ),
    "export": (
        "errors interruption progress",
        "npz",
        "publication",
        "digits models",
        "figures verify",
        "__main__",
    ),
    "export.publication": (
        "figures manifest server_config serving_path warmup",
        "card golden repository verification",
        "pipeline",
    ),
    "export.digits": ("subject", "graph", "data", "training", "checks", "report", "candidate"),
    "export.models": (
        "given graph samples scores",
        "keras_model saved_model",
        "candidate",
    ),
}
PARTS = {"tfserving_client": set(), "deploy": {"tfserving_client"}, "export": {"tfserving_client"}}


def _files(package: str) -> Iterator[tuple[Path, str]]:
    """Each module of a package, as file and dotted name."""
    root = ROOT / "client" if package.startswith("tfserving_client") else ROOT
    for path in sorted((root / package.replace(".", "/")).rglob("*.py")):
        yield path, ".".join(path.relative_to(root).with_suffix("").parts)


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports, as module and name; within functions and for types alone, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            for alias in node.names:
                yield node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""


def _room(package: str, module: str) -> str:
    return module.removeprefix(f"{package}.").partition(".")[0]


@pytest.mark.parametrize("package", HOUSES)
def test_rooms_know_only_those_beneath_them(package: str) -> None:
    floors = {room: i for i, rooms in enumerate(HOUSES[package]) for room in rooms.split()}
    wrong, seen = [], set()
    for path, module in _files(package):
        room = _room(package, module)
        if module == f"{package}.__init__":
            continue
        seen.add(room)
        for source, name in _imports(path):
            # `from package import room` names it last.
            target = f"{source}.{name}" if source == package else source
            if not target.startswith(f"{package}."):
                continue
            known = _room(package, target)
            if known in floors and known != room and floors[known] >= floors[room]:
                wrong.append(f"{module} imports {target}")
    assert not wrong
    assert seen == floors.keys()


@pytest.mark.parametrize("part", PARTS)
def test_parts_know_only_the_client(part: str) -> None:
    for path, module in _files(part):
        known = {source.partition(".")[0] for source, _ in _imports(path)} & PARTS.keys()
        assert known <= {part, *PARTS[part]}, module


@pytest.mark.parametrize("part", PARTS)
def test_nobody_imports_a_private_name_of_another(part: str) -> None:
    for path, module in _files(part):
        for source, name in _imports(path):
            ours = source.partition(".")[0] in PARTS
            private = name.startswith("_") and not name.startswith("__")
            assert not (ours and private), f"{module} imports {name} of {source}"


def test_only_export_and_the_local_server_need_tensorflow() -> None:
    for part in PARTS:
        for path, module in _files(part):
            needs = {source.partition(".")[0] for source, _ in _imports(path)}
            if {"tensorflow", "tensorflow_serving", "keras"} & needs:
                assert module.startswith(("export.", "deploy.local.")), module
