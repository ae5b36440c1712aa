from __future__ import annotations

import numpy as np
import pytest

from client.drawing import bar, draw, side_by_side


def test_a_digit_is_7_lines_of_14_characters_with_a_dot_for_each_pixel_of_ink() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0, 0] = image[3, 1] = 255
    image[4:8, 26:28] = 128
    image[20, 20] = 20  # too faint
    lines = draw(image)
    assert [len(line) for line in lines] == [14] * 7
    assert lines[0][0] == "⢁"
    assert lines[1][13] == "⣿"
    assert set("".join(lines)) == {"⠀", "⢁", "⣿"}


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, "    "), (1, "████"), (0.5, "██  "), (0.53125, "██▏ ")]
)
def test_bars(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_side_by_side() -> None:
    assert side_by_side([["a", "b"], ["c", "d"]], gap="|") == ["a|c", "b|d"]
