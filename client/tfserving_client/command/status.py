"""`status`, `metadata` and `wait`: what is loaded, how it is asked, and when it is there."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tfserving_client.command.connection import settings
from tfserving_client.command.progress import Progress

# numpy and gRPC load slowly: within functions, where Ctrl-C is met, and not for --help.
if TYPE_CHECKING:
    from tfserving_client import ServingClient


def status(options: argparse.Namespace) -> int:
    """Print the state of every version; the exit status."""
    with _connect(options) as serving:
        for row in serving.status(version=options.version):
            if options.json:
                print(json.dumps(asdict(row)))
            else:
                print(f"{options.model} {row.version}  {row.state}  {row.error}".rstrip())
    return 0


def metadata(options: argparse.Namespace) -> int:
    """Print the signatures of a loaded version; the exit status."""
    with _connect(options) as serving:
        found = serving.metadata(version=options.version, label=options.label)
    if options.json:
        print(json.dumps(asdict(found)))
        return 0
    print(f"{found.model} {found.version}")
    for name, signature in sorted(found.signatures.items()):
        print(f"  {name}")
        for way, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for alias, spec in sorted(specs.items()):
                sizes = "?" if spec.shape is None else [s or "n" for s in spec.shape]
                print(f"    {way:3}  {alias}: {spec.dtype} {sizes}".replace("'", ""))
    return 0


def wait(options: argparse.Namespace) -> int:
    """Return once a version is AVAILABLE; the exit status."""
    timeout = options.timeout
    where = f"{options.model} at {options.url}"
    with _connect(options) as serving, Progress(lambda s: f"{where}: {s:.0f} of {timeout:g} s"):
        serving.wait_until_ready(version=options.version, timeout=timeout)
    print(json.dumps({"ready": True}) if options.json else f"{where} is ready")
    return 0


def _connect(options: argparse.Namespace) -> ServingClient:
    from tfserving_client import ServingClient

    return ServingClient(**settings(options), timeout=options.timeout)
