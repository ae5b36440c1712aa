from __future__ import annotations

import numpy as np
import pytest

from client.drawing import bar, draw, side_by_side


def test_a_digit_is_14_lines_of_28_characters_and_ink_is_dense() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[10:12, 5] = 255
    image[13, 6] = 128
    lines = draw(image)
    assert [len(line) for line in lines] == [28] * 14
    assert lines[5][5] == "█"
    assert lines[6][6] == "▒"
    assert set("".join(lines)) == {" ", "█", "▒"}


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, "    "), (1, "████"), (0.5, "██  "), (0.53125, "██▏ ")]
)
def test_bars(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_side_by_side() -> None:
    assert side_by_side([["a", "b"], ["c", "d"]], gap="|") == ["a|c", "b|d"]
