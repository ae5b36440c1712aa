"""The environments of `make setup`: each holds what one part of the bundle needs."""

from __future__ import annotations

import sys

TOLD = " is not installed in "  # part of each such sentence


def told(missing: ModuleNotFoundError, made_by: str) -> str:
    """One sentence: what is not installed here, and the command that makes an environment with it.

    Raises:
        ModuleNotFoundError: the missing module is part of this bundle, which is a bug.
    """
    package = (missing.name or "").partition(".")[0]
    if package in {"", "deploy"}:
        raise missing
    return (
        f"{package}{TOLD}{sys.prefix}; `{made_by}` makes an environment with it in "
        ".venv: run .venv/bin/python instead"
    )
