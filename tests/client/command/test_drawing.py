from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from tfserving_client.command.drawing import (
    bar,
    draw,
    picture,
    side_by_side,
)


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


def test_any_size_that_braille_divides_is_drawn() -> None:
    assert draw(np.full((8, 4), 255, np.uint8)) == ["⣿⣿", "⣿⣿"]


_PROBABILITIES = np.array([0.25, 0.75, *[0] * 8], np.float32)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _stroke(ink: int, paper: int) -> Image.Image:
    pixels = np.full((300, 200), paper, np.uint8)
    pixels[50:250, 90:110] = ink
    return Image.fromarray(pixels)


def test_a_picture_is_drawn_beside_a_bar_for_each_digit() -> None:
    lines = picture(_png(_stroke(255, 0)), _PROBABILITIES)
    assert len(lines) == 10
    assert lines[1].endswith("  1 ███████████████       75.0%")
    assert "⣿" in lines[5]
    assert set(lines[0][:20]) == {"⠀"}


def test_ink_is_drawn_on_paper_too_and_nothing_for_what_is_transparent() -> None:
    drawn = picture(_png(_stroke(255, 0)), _PROBABILITIES)
    assert picture(_png(_stroke(0, 255)), _PROBABILITIES) == drawn
    ink = _stroke(255, 0)
    transparent = Image.merge("LA", (Image.new("L", ink.size), ink))
    assert picture(_png(transparent), _PROBABILITIES) == drawn


def test_nothing_is_drawn_of_what_is_no_picture_or_without_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert picture(b"no picture", _PROBABILITIES) == []
    png = _png(_stroke(255, 0))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert picture(png, _PROBABILITIES) == []
