"""One request and its answer at a time."""

from __future__ import annotations

import pytest

from tests.congruence.cases import CASES, Case
from tests.congruence.comparing import difference
from tests.congruence.deviations import marks
from tests.congruence.reporting import told
from tests.congruence.stage import Stage


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["id"], marks=marks(case["id"])) for case in CASES]
)
def test_case(case: Case, stage: Stage) -> None:
    answer = stage.server(case["setup"]).ask(case["request"])
    if what := difference(case["response"], answer, case.get("compare")):
        pytest.fail(told(what, case["request"], case["response"], answer), pytrace=False)
