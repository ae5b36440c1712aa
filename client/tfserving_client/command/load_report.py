"""The report of a load test, as terminal text and as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from tfserving_client.command.drawing import bar
from tfserving_client.command.load import Report

_LEVELS = "▁▂▃▄▅▆▇█"
_ROWS = 20  # at most so many lines for a histogram
_STYLE = """text{font:12px system-ui,sans-serif;fill:#1f2328}.bar{fill:#2f6fd0}.bad{fill:#cf3b3b}
.axis{stroke:#8b949e;fill:none}.paper{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6ea8fe}.paper{fill:#0d1117}}"""


def sparkline(values: Sequence[float | None]) -> str:
    """A character for each value, from zero to the largest; a blank for None."""
    top = max((value for value in values if value is not None), default=0) or 1
    return "".join(
        " " if value is None else _LEVELS[round(value / top * (len(_LEVELS) - 1))]
        for value in values
    )


def as_lines(report: Report) -> list[str]:
    """The report for a terminal: in numbers, as a histogram and over time."""
    asked = f" of {report.asked:g} asked" if report.asked is not None else ""
    text = [
        f"  answers/s  {report.requests_per_second:,.1f}{asked}, {report.images_per_second:,.1f}"
        f" images/s; {report.answered:,} of {report.requests:,} answered",
        *(
            f"  {n:,} × {kind}, as: {' '.join(report.examples[kind].split())}"
            for kind, n in report.errors.items()
        ),
    ]
    if not report.answered:
        return text
    latencies = "  ".join(f"{name} {_short(ms)}" for name, ms in report.latency_ms.items())
    text += [f"  latency    {latencies} ms (sent late: p99 {_short(report.sent_late_ms)} ms)", ""]
    step = math.ceil(len(report.histogram) / _ROWS)
    groups = [report.histogram[i : i + step] for i in range(0, len(report.histogram), step)]
    counts = [sum(bucket.count for bucket in group) for group in groups]
    for group, count in zip(groups, counts, strict=True):
        drawn = bar(count / max(counts), 50).rstrip() or ("▏" if count else "")
        text.append(f"{_short(group[0].low_ms):>8} ms  {drawn} {count or ''}".rstrip())
    text.append("")
    answers = [slot.answers_per_second for slot in report.timeline]
    medians = [slot.p50_ms for slot in report.timeline]
    known = [median for median in medians if median is not None]
    for name, line, seen in (("answers/s", answers, answers), ("p50 in ms", medians, known)):
        text.append(f"  {name}  {sparkline(line)} {_short(min(seen))} to {_short(max(seen))}")
    return text


def as_svg(report: Report, title: str) -> str:
    """The same as an SVG that stands alone, for light and dark pages."""
    latencies = [math.log10(bucket.low_ms) for bucket in report.histogram]
    latencies += [math.log10(bucket.high_ms) for bucket in report.histogram[-1:]]
    round_ms = [n * 10.0**power for power in range(-3, 6) for n in (1, 2, 5)]
    ticks = {math.log10(ms): _short(ms) for ms in round_ms}
    times = [slot.second for slot in report.timeline] + [report.seconds]
    seconds = {report.seconds * i / 5: f"{report.seconds * i / 5:.3g}" for i in range(6)}
    counts = [bucket.count for bucket in report.histogram]
    answers = [slot.answers_per_second for slot in report.timeline]
    errors = [slot.errors_per_second for slot in report.timeline]
    medians = [slot.p50_ms or 0 for slot in report.timeline]
    over = "over the time in s"
    panels = [
        _panel(220, f"answers/s {over} (red: errors/s)", times, seconds,
               {"bar": answers, "bad": errors}),
        _panel(380, f"median latency in ms {over}", times, seconds, {"bar": medians}),
    ]  # fmt: skip
    if counts:
        panels += [_panel(60, "requests by latency in ms", latencies, ticks, {"bar": counts})]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 520">'
        f"<style>{_STYLE}</style><title>{escape(title)}</title>"
        '<rect class="paper" width="720" height="520"/>'
        f'<text x="12" y="26" style="font-size:11px">{escape(title)}</text>'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(
    top: float,
    title: str,
    edges: Sequence[float],
    ticks: Mapping[float, str],
    bars: Mapping[str, Sequence[float]],
) -> str:
    """Bars between the edges from `top` down, by style, and the ticks that lie within."""
    base, highest = top + 100, max(map(max, bars.values())) or 1
    left, scale = edges[0], 640 / (edges[-1] - edges[0])
    x = [60 + (edge - left) * scale for edge in edges]
    parts = [f'<text x="60" y="{top - 8}">{title}</text>']
    for style, heights in bars.items():
        for (low, high), value in zip(pairwise(x), heights, strict=True):
            tall = 100 * value / highest
            parts.append(
                f'<rect class="{style}" x="{low:.1f}" y="{base - tall:.1f}"'
                f' width="{max(high - low - 1, 0.5):.1f}" height="{tall:.1f}"/>'
            )
    parts.append(f'<path class="axis" d="M60 {top}V{base}H700"/>')
    for y, label in ((top + 10, _short(highest)), (base, "0")):
        parts.append(f'<text x="54" y="{y}" text-anchor="end">{label}</text>')
    for tick, label in ticks.items():
        if 60 <= (at := 60 + (tick - left) * scale) <= 701:
            parts.append(f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
