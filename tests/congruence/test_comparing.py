"""What the comparer lets pass, and what not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.congruence.cases import CASES, STORIES
from tests.congruence.comparing import difference, layout
from tests.congruence.deviations import DEVIATIONS

NESTED = '{\n "a": [\n  1.5,\n  "x, {\\"y"\n ],\n "b": {}\n}\n'


def rest(body: str, status: int = 200, kind: str = "application/json") -> dict[str, Any]:
    return {"status": status, "type": kind, "body": body}


def message(**fields: Any) -> dict[str, Any]:
    return {"code": "OK", "message": fields}


def refused(details: str, code: str = "INTERNAL") -> dict[str, Any]:
    return {"code": code, "details": details}


@pytest.mark.parametrize(
    ("want", "got", "how"),
    [
        (rest(NESTED), rest('{\n "b": {},\n "a": [\n  1.5000001,\n  "x, {\\"y"\n ]\n}\n'), None),
        (rest("{}"), rest(" { } "), "json"),
        (rest('{"a": NaN}'), rest('{"a": NaN}'), None),
        (rest("oh", 404), rest("oh", 404), None),
        (rest("", 404), rest("anything", 404), "any"),
        (rest("oh", 400), rest("oh no", 400), "prefix"),
        (message(x=[1.0, "NaN"]), message(x=[1.0000001, "NaN"]), None),
        (message(x="failed"), message(x="failed\n\t [[{{node MatMul}}]]"), None),
        (refused("in {a,b}"), refused("in {b,a}"), "words"),
        (refused(r"\d+ left"), refused("12 left"), "pattern"),
        (refused("left"), refused("12 left over"), "contains"),
        (refused("Was: inputs"), refused("Was: goo.gle/debugonly  \ninputs"), None),
        (rest(r"Was: a\nb", 400), rest(r"Was: goo.gle/debugstr \na\nb", 400), None),
        (refused("one of JPEG, PNG"), refused("one of JPEG, JPEG XL, PNG"), "prefix"),
    ],
)
def test_these_are_alike(want: dict[str, Any], got: dict[str, Any], how: str | None) -> None:
    assert difference(want, got, how) is None


@pytest.mark.parametrize(
    ("want", "got", "how"),
    [
        (rest(NESTED), rest(NESTED.replace("1.5", "1.6")), None),
        (rest(NESTED), rest(NESTED.replace("\n ]", "]")), None),
        (rest(NESTED), rest(NESTED.rstrip()), None),
        (rest(NESTED), rest(NESTED.replace('"b"', '"c"')), None),
        (rest("[1]"), rest("[1.0]"), "numbers"),
        (rest("[1]"), rest("[true]"), None),
        (rest("[1]"), rest("[1.0]"), None),
        (rest("[1, 2]"), rest("[2, 1]"), None),
        (rest("{}"), rest("{"), None),
        (rest("{}"), rest("{}", kind="text/html"), None),
        (rest("{}"), rest("{}", status=201), "any"),
        (message(x=[1.0]), message(x=[1.0000001]), "exact"),
        (message(x=[1.0]), message(x=[1.0], y=2), None),
        (message(x="1"), message(x=1), None),
        (refused("a"), refused("a", "UNKNOWN"), "any"),
        (refused("a"), refused("a "), None),
        (refused("a"), refused("A"), "exact"),
        (refused("Was: inputs"), refused("Was: goo.gle/other \ninputs"), None),
    ],
)
def test_these_differ(want: dict[str, Any], got: dict[str, Any], how: str | None) -> None:
    assert difference(want, got, how)


@pytest.mark.parametrize("record", [pytest.param(case, id=case["id"]) for case in CASES[::7]])
def test_a_record_is_like_itself(record: dict[str, Any]) -> None:
    answer = record["response"]
    assert difference(answer, answer, record.get("compare")) is None


def test_the_layout_keeps_every_blank() -> None:
    assert layout(NESTED) == NESTED.replace("1.5", "0.0")


def test_deviations_are_few_and_each_is_of_a_case() -> None:
    ids = [each["id"] for each in (*CASES, *STORIES)]
    deviating = {pattern: [i for i in ids if re.fullmatch(pattern, i)] for pattern in DEVIATIONS}
    assert all(deviating.values()), deviating
    assert sum(map(len, deviating.values())) <= len(ids) * 0.02
