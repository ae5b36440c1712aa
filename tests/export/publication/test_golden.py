from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import Refused
from export.publication.golden import PATH, Answers, Golden


class Served:
    """Answers with the same, whatever it is asked."""

    def __init__(self, **outputs: Any) -> None:
        self._outputs = {name: np.asarray(values) for name, values in outputs.items()}

    def run(self, _signature: str, _inputs: Any) -> Any:
        return self._outputs


def _parity(want: Any, got: Any) -> float:
    golden = Golden({"f": Answers({}, {"o": np.asarray(want)})})
    return golden.parity(Served(o=got))["f"]  # type: ignore[arg-type]


def test_the_file_is_as_its_module_says(tmp_path: Path) -> None:
    words = np.array([[b"a\0"], [b""], [b"\0\0bc"]], object)
    rows, answers = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float16)
    golden = Golden(
        {
            "f": Answers({"word": words, "rows": rows}, {"rows": answers}),
            "g": Answers({"rows": rows}, {}),
        },
        1e-2,
        named={"both": rows, "labels": np.arange(3)},
    )
    golden.write(tmp_path)
    with np.load(tmp_path / PATH, allow_pickle=False) as file:
        arrays = dict(file)
    assert json.loads(str(arrays["index"])) == {
        "f": {
            "tolerance": 1e-2,
            "inputs": {"word": "f/inputs/word", "rows": "both"},
            "outputs": {"rows": "f/outputs/rows"},
        },
        "g": {"tolerance": 1e-2, "inputs": {"rows": "both"}, "outputs": {}},
    }
    assert arrays["labels"].tolist() == [0, 1, 2]
    assert arrays["f/inputs/word"].dtype.kind == "S"
    lengths = arrays["f/inputs/word/lengths"]
    assert lengths.tolist() == [[2], [0], [4]]
    padded = zip(arrays["f/inputs/word"].flat, lengths.flat, strict=True)
    assert [value.ljust(length, b"\0") for value, length in padded] == list(words.flat)
    assert arrays["f/outputs/rows"].dtype == np.float16


@pytest.mark.parametrize(
    ("want", "got", "difference"),
    [
        ([0.5, 1.0], [0.5, 1.25], 0.25),
        ([0.5, 400.0], [1.5, 400.0], 1 / 400),  # of the largest magnitude, above 1
        ([math.nan, math.inf], [math.nan, math.inf], 0.0),
        ([1.0, math.nan], [1.0, 1.0], math.inf),
        ([1.0], [math.inf], math.inf),
        ([1.0], [[1.0]], math.inf),
        ([1, 2], [1, 2], 0.0),
        ([1, 2], [1, 3], math.inf),
        ([b"a"], [b"b"], math.inf),
        ([1 + 1j], [1 + 1.5j], 0.5 / math.sqrt(2)),
        ([], [], 0.0),
    ],
)
def test_how_far_answers_are_apart(want: Any, got: Any, difference: float) -> None:
    assert _parity(want, got) == pytest.approx(difference)


def test_a_signature_that_answers_otherwise_is_refused_by_name() -> None:
    golden = Golden({})
    golden.check({"f": 1e-5, "g": 0.0})
    for difference in (0.5, math.nan):
        with pytest.raises(Refused, match=r"signature g differs by (0\.5|nan) .* at most 1e-05"):
            golden.check({"f": 0.0, "g": difference})
