from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from tfserving_client.command.drawing import bar
from tfserving_client.command.load import Report, Sample, report
from tfserving_client.command.load_report import as_lines, as_svg, sparkline


def test_a_sparkline_reaches_from_nothing_to_the_largest() -> None:
    assert sparkline([0, 3.5, None, 7]) == "▁▅ █"
    assert sparkline([0, 0]) == "▁▁"


def _report(*latencies: float, failed: int = 0) -> Report:
    answers = [Sample(0, 0, latency) for latency in latencies]
    errors = [Sample(0, 0, 1, "Overloaded", "<full>\n up")] * failed
    return report(answers + errors, seconds=4, batch=2, asked=9)


def test_a_load_in_a_terminal_is_numbers_a_histogram_and_two_lines_over_time() -> None:
    lines = as_lines(_report(*[0.0021] * 30, *[0.011] * 10, failed=2))
    text = "\n".join(lines)
    assert "10.0 of 9 asked, 20.0 images/s; 40 of 42 answered" in text
    assert "2 × Overloaded, as: <full> up" in text
    assert "p50 2.1  p90 11  p99 11  p99.9 11  max 11 ms" in text
    assert f"       2 ms  {'█' * 50} 30" in lines
    assert f"      10 ms  {bar(1 / 3, 50).rstrip()} 10" in lines
    assert [line.split()[0] for line in lines[-2:]] == ["answers/s", "p50"]


def test_a_histogram_of_many_decades_still_fits_a_screen() -> None:
    lines = as_lines(_report(*np.logspace(-3, 1, 200)))
    assert len(lines) < 30
    assert all(len(line) < 100 for line in lines)


@pytest.mark.parametrize("measured", [_report(0.001, 0.02, failed=1), _report(failed=3), _report()])
def test_the_svg_is_well_formed_and_stands_alone(measured: Report) -> None:
    svg = as_svg(measured, "5 < 6 requests/s & more")
    root = ElementTree.fromstring(svg)
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "5 < 6 requests/s & more"
    assert any("answers/s" in text for text in texts)
    assert any("latency in ms" in text for text in texts)
    assert "prefers-color-scheme:dark" in svg
    assert "href" not in svg
    assert "nan" not in svg


def test_a_load_without_an_answer_is_told_in_words() -> None:
    assert "0 of 3 answered" in as_lines(_report(failed=3))[0]
