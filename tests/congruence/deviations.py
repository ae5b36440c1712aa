"""Where deploy.local answers otherwise than the real server, on purpose.

A regular expression for whole ids → the reason, as in deploy/local/README.md. Such a case is
expected to fail on the local server, and its entry has to go when it passes.
"""

from __future__ import annotations

import re

import pytest

from tests.congruence.servers import IS_LOCAL

DEVIATIONS: dict[str, str] = {}


def marks(id_: str) -> list[pytest.MarkDecorator]:
    """The marks of a case or story."""
    if not IS_LOCAL:
        return []
    reasons = [reason for pattern, reason in DEVIATIONS.items() if re.fullmatch(pattern, id_)]
    return [
        pytest.mark.xfail(reason=reason, raises=pytest.fail.Exception, strict=True)
        for reason in reasons
    ]
