"""The result of tuning as text: a table, a chart and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from string import ascii_lowercase

from deploy.operate.stack.status import table
from deploy.release.tune import Setting

_WIDTH, _HEIGHT = 64, 12  # characters


def lines(
    settings: Sequence[Setting], use: Setting, limit: float, *, is_generator_limit: bool
) -> Iterator[str]:
    """The report.

    Args:
        settings: with their measurements, the server's defaults first and then the shipped.
        use: the chosen setting.
        limit: milliseconds that 99 of 100 requests may take.
        is_generator_limit: whether requests were sent too late at some rate.
    """
    rows = [("", "SETTING", "REQUESTS/S", "P99", "ROWS PER BATCH", "PADDING")]
    for letter, one in zip(ascii_lowercase, settings, strict=False):
        batches = (f"{one.rows:.1f}", f"{one.padding:.0%}") if one.rows else ("", "")
        rows.append((letter, one.name, f"{one.rate:,.0f}", f"{one.p99:.1f} ms", *batches))
    yield from table(rows)
    yield ""
    yield from _picture(settings, limit)
    yield ""
    if is_generator_limit:
        yield "Requests were sent late at some rates: this machine cannot send more, the server may"
        yield "answer more than is shown."
    yield _verdict(settings, use, limit)


def _verdict(settings: Sequence[Setting], use: Setting, limit: float) -> str:
    defaults, *batched = settings
    best = max(batched, key=lambda one: one.rate)
    within = f"requests/s with 99 of 100 within {limit:g} ms"
    if not use.rate:
        return f"no setting answers 99 of 100 requests within {limit:g} ms: raise --p99-ms"
    if not use.text:
        loses = "loses" if best.rate < defaults.rate else "is not better in every measurement"
        return (
            f"batching {loses}: the server's defaults answer {defaults.rate:,.0f} {within}, the "
            f"best batching ({best.name}) {best.rate:,.0f}"
        )
    return (
        f"use {use.name}: {use.rate:,.0f} {within}; the server's defaults answer "
        f"{defaults.rate:,.0f}, the shipped settings {settings[1].rate:,.0f}"
    )


def _picture(settings: Sequence[Setting], limit: float) -> Iterator[str]:
    """Measurements as letters of settings: requests/s to the right, p99 up, both logarithmic."""
    points = [
        (math.log(probe.rate), math.log(max(probe.p99, 0.01)), letter)
        for letter, one in zip(ascii_lowercase, settings, strict=False)
        for probe in one.probes
        if math.isfinite(probe.p99)
    ]
    if not points:
        return
    xs, ys, _ = zip(*points, strict=True)
    left, width = min(xs), max(xs) - min(xs) or 1.0
    high = max(*ys, math.log(limit))
    height = high - min(*ys, math.log(limit)) or 1.0

    def row(y: float) -> int:
        return int((high - y) / height * (_HEIGHT - 1) + 0.5)

    drawn = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    drawn[row(math.log(limit))] = ["·"] * _WIDTH
    for x, y, letter in points:
        drawn[row(y)][round((x - left) / width * (_WIDTH - 1))] = letter
    labels = {0: math.exp(high), row(math.log(limit)): limit, _HEIGHT - 1: math.exp(high - height)}
    for i, line in enumerate(drawn):
        label = f"{labels[i]:.3g} ms" if i in labels else ""
        yield f"{label:>10} │{''.join(line)}".rstrip()
    ends = f"{math.exp(left):,.0f}", f"{math.exp(left + width):,.0f} requests/s"
    yield f"{'':10} └{'─' * _WIDTH}"
    yield f"{'':12}{ends[0]}{ends[1]:>{_WIDTH - len(ends[0])}}"
