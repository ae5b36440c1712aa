"""Manifests against the API's own schemas, unknown fields refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.kubernetes.rendering import Object

MINORS = ("1.35", "1.36", "1.37")
_CUSTOM = ROOT.parent / "shared" / "schemas"


def check(manifest: Object, minor: str) -> None:
    """Hold an object to its kind's schema of a minor of Kubernetes.

    Raises:
        jsonschema.ValidationError: it does not fit.
    """
    _check(json.dumps(manifest), minor)


@functools.cache  # what is the same in several overlays is held to it once
def _check(manifest: str, minor: str) -> None:
    kubernetes_validate.validate(json.loads(manifest), minor, strict=True)


def check_custom(manifest: Object) -> None:
    """Hold an object of a kind that others define to their definition; skip where it is not.

    Raises:
        jsonschema.ValidationError: it does not fit.
    """
    version = manifest["apiVersion"].rpartition("/")[2]
    file = _CUSTOM / f"{manifest['kind']}-{version}.json"
    if not file.exists():
        pytest.skip(f"{file.name} is not beside the checkout")
    schema = json.loads(file.read_text())["schema"]
    jsonschema.Draft202012Validator(schema).validate(manifest)
    if unknown := next(_unknown(manifest, schema, manifest["kind"]), None):
        raise jsonschema.ValidationError(f"{unknown} is no field")


def _unknown(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    """Paths of fields that the schema does not list."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or at.endswith(".metadata"):
        return
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _unknown(each, schema.get("items", {}), f"{at}[{number}]")
    elif isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        others = schema.get("additionalProperties")
        for name, each in value.items():
            known = schema.get("properties", {}).get(name, others)
            if not known:
                yield f"{at}.{name}"
            elif isinstance(known, dict):
                yield from _unknown(each, known, f"{at}.{name}")
    elif isinstance(value, dict) and value:
        yield at
