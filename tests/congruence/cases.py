"""What is asked and what the answer is: the recorded cases, and rows that they lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.congruence import more

_RECORDED = Path(__file__).parent / "recorded"
Case = dict[str, Any]


def _lines(name: str) -> list[Case]:
    return [json.loads(line) for line in (_RECORDED / name).read_text().splitlines()]


SETUPS: dict[str, Any] = {**json.loads((_RECORDED / "setups.json").read_text()), **more.SETUPS}
STORIES = [*_lines("stories.jsonl"), *more.STORIES]
CASES = sorted(  # those of one server together, and otherwise as they stand: some build on others
    [*_lines("cases.jsonl"), *more.CASES], key=lambda case: list(SETUPS).index(case["setup"])
)
