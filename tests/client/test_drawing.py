from __future__ import annotations

import io
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from client.drawing import bar, draw, load_lines, load_svg, picture, side_by_side, sparkline
from client.load import Report, Sample, report


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


def test_a_sparkline_reaches_from_nothing_to_the_largest() -> None:
    assert sparkline([0, 3.5, None, 7]) == "▁▅ █"
    assert sparkline([0, 0]) == "▁▁"


def _report(*latencies: float, failed: int = 0) -> Report:
    answers = [Sample(0, 0, latency) for latency in latencies]
    errors = [Sample(0, 0, 1, "Overloaded", "<full>\n up")] * failed
    return report(answers + errors, seconds=4, batch=2, asked=9)


def test_a_load_in_a_terminal_is_numbers_a_histogram_and_two_lines_over_time() -> None:
    lines = load_lines(_report(*[0.0021] * 30, *[0.011] * 10, failed=2))
    text = "\n".join(lines)
    assert "10.0 of 9 asked, 20.0 images/s; 40 of 42 answered" in text
    assert "2 × Overloaded, as: <full> up" in text
    assert "p50 2.1  p90 11  p99 11  p99.9 11  max 11 ms" in text
    assert f"       2 ms  {'█' * 50} 30" in lines
    assert f"      10 ms  {bar(1 / 3, 50).rstrip()} 10" in lines
    assert [line.split()[0] for line in lines[-2:]] == ["answers/s", "p50"]


def test_a_histogram_of_many_decades_still_fits_a_screen() -> None:
    lines = load_lines(_report(*np.logspace(-3, 1, 200)))
    assert len(lines) < 30
    assert all(len(line) < 100 for line in lines)


@pytest.mark.parametrize("measured", [_report(0.001, 0.02, failed=1), _report(failed=3), _report()])
def test_the_svg_is_well_formed_and_stands_alone(measured: Report) -> None:
    svg = load_svg(measured, "5 < 6 requests/s & more")
    root = ElementTree.fromstring(svg)
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "5 < 6 requests/s & more"
    assert any("answers/s" in text for text in texts)
    assert any("latency in ms" in text for text in texts)
    assert "prefers-color-scheme:dark" in svg
    assert "href" not in svg
    assert "nan" not in svg


def test_a_load_without_an_answer_is_told_in_words() -> None:
    assert "0 of 3 answered" in load_lines(_report(failed=3))[0]
