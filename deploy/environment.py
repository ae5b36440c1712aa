"""The environments of `make setup`: each holds what one part of the bundle needs."""

from __future__ import annotations

import sys

TOLD = " is not installed in "  # in each such sentence


def told(missing: ModuleNotFoundError, made_by: str) -> str:
    """In a sentence: what is not installed here, and the command that makes an environment with it.

    Raises:
        ModuleNotFoundError: what is missing is a module of this bundle: a fault of its own.
    """
    package = (missing.name or "").partition(".")[0]
    if package in {"", "deploy"}:
        raise missing
    return (
        f"{package}{TOLD}{sys.prefix}; `{made_by}` makes an environment with it in "
        ".venv: run .venv/bin/python instead"
    )
