"""What `kubectl kustomize` makes of deploy/kubernetes."""

from __future__ import annotations

import copy
import functools
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.conftest import ROOT, kubectl_program

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu", "canary")
Object = dict[str, Any]


def text(folder: Path) -> str:
    """What is rendered of a folder, as YAML."""
    done = subprocess.run(
        [kubectl_program(), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlay(name: str) -> list[Object]:
    """The objects of one of OVERLAYS; each caller's own, to be changed."""
    return copy.deepcopy(_overlay(name))


@functools.cache
def _overlay(name: str) -> list[Object]:
    return objects(FOLDER / "overlays" / name)


def objects(folder: Path) -> list[Object]:
    """The objects that are rendered of a folder."""
    return list(yaml.load_all(text(folder), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def own(folder: Path, components: Sequence[str], overlay: str = "cpu", more: str = "") -> Path:
    """An overlay as an operator would write it: one of ours, and components.

    Args:
        folder: where to write it; an empty one.
        components: names of folders of components/.
        overlay: one of OVERLAYS.
        more: lines.
    """

    def reached(path: Path) -> str:
        return os.path.relpath(path.resolve(), folder.resolve())

    listed = "".join(f"  - {reached(FOLDER / 'components' / name)}\n" for name in components)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{reached(FOLDER / 'overlays' / overlay)}]\ncomponents:\n{listed}{more}"
    )
    return folder


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name, which may have a hash after it."""
    of_kind = (each for each in objects if each["kind"] == kind)
    pattern = rf"{name}(-[a-z0-9]{{10}})?"
    (found,) = (each for each in of_kind if re.fullmatch(pattern, each["metadata"]["name"]))
    return found


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """The name of each Deployment, and its pods as they are described."""
    for each in objects:
        if each["kind"] == "Deployment":
            yield each["metadata"]["name"], each["spec"]["template"]


def container(objects: Sequence[Object], deployment: str) -> Object:
    """The one container of a Deployment's pods."""
    found = named(objects, "Deployment", deployment)
    (only,) = found["spec"]["template"]["spec"]["containers"]
    return dict(only)


def mounted(objects: Sequence[Object], template: Object) -> dict[str, tuple[str, int]]:
    """Path → text and mode of each file that a pod's ConfigMaps bring."""
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    configs = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ConfigMap"}
    files = {}
    (only,) = template["spec"]["containers"]
    for mount in only["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        projected = volume.get("projected", {})
        for source in projected.get("sources", [volume]):
            reference = source.get("configMap", {})
            data = configs.get(reference.get("name"), {}).get("data", {})
            paths = {each["key"]: each["path"] for each in reference.get("items", ())}
            mode = reference.get("defaultMode", projected.get("defaultMode", 0o644))
            for key, content in data.items():
                if not paths or key in paths:
                    files[f"{mount['mountPath']}/{paths.get(key, key)}"] = (content, mode)
    return files
