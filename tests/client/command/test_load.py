from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest

from tfserving_client.command.load import (
    NOT_SENT,
    Sample,
    arrivals,
    batches,
    closed_loop,
    noise,
    open_loop,
    report,
)

T = TypeVar("T")


class _Skipping(selectors.DefaultSelector):
    """Does not wait, but remembers how long it should have."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(0)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in a time of its own, in which only waiting takes any."""
    selector = _Skipping()

    def loop() -> asyncio.AbstractEventLoop:
        made = asyncio.SelectorEventLoop(selector)
        made.time = lambda: selector.now  # type: ignore[method-assign]
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coroutine)


def _taking(*seconds: float) -> Callable[[], Awaitable[None]]:
    """Calls that take so long, one after the other; the last for all that follow."""
    left = list(seconds)

    async def call() -> None:
        await asyncio.sleep(left.pop(0) if len(left) > 1 else left[0])

    return call


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert arrivals(4, 1.2, None).tolist() == [0, 0.25, 0.5, 0.75, 1.0]
    assert arrivals(0.5, 1, None).tolist() == [0]


def test_poisson_arrivals_have_the_rate_the_spread_and_the_seed() -> None:
    due = arrivals(100, 1000, 7)
    assert due.tolist() == arrivals(100, 1000, 7).tolist()
    assert due.tolist() != arrivals(100, 1000, 8).tolist()
    assert len(due) == pytest.approx(100_000, rel=0.02)
    gaps = np.diff(due)
    assert gaps.min() >= 0
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)  # as of an exponential distribution


def test_an_open_loop_asks_when_due_and_counts_from_then() -> None:
    # A server that stalls a second, then answers at once: what came in between is not held back.
    async def run() -> list[Sample]:
        return await open_loop(_taking(1.0, 0.01), [0.0, 0.1, 0.2, 0.9], 10)

    samples = sorted(_run(run()), key=lambda sample: sample.due)
    assert [s.sent - s.due for s in samples] == pytest.approx([0] * 4, abs=1e-6)
    assert [s.done - s.due for s in samples] == pytest.approx([1, 0.01, 0.01, 0.01], abs=1e-6)


def test_an_open_loop_that_is_itself_late_says_so_and_still_counts_from_the_due_time() -> None:
    async def run() -> list[Sample]:
        return await open_loop(_taking(0.5), [-2.0], 10)

    (sample,) = _run(run())
    assert (sample.due, sample.sent, sample.done) == pytest.approx((-2, 0, 0.5), abs=1e-6)
    assert report([sample], seconds=1, batch=1).sent_late_ms == pytest.approx(2000, abs=0.01)


def test_what_is_over_the_cap_is_not_sent_and_not_forgotten() -> None:
    async def run() -> list[Sample]:
        return await open_loop(_taking(10.0), [0.1, 0.2, 0.3, 0.4, 10.15], 2)

    samples = sorted(_run(run()), key=lambda sample: sample.due)
    assert [s.error for s in samples] == ["", "", NOT_SENT, NOT_SENT, ""]
    assert "2 requests" in samples[2].text


def test_in_a_closed_loop_each_caller_asks_again_when_answered() -> None:
    async def run() -> list[Sample]:
        return await closed_loop(_taking(0.3), 2, 1.0)

    samples = _run(run())
    assert sorted(s.due for s in samples) == pytest.approx([0, 0, 0.3, 0.3, 0.6, 0.6, 0.9, 0.9])
    assert {round(s.done - s.due, 6) for s in samples} == {0.3}


def test_a_failed_request_is_a_sample_with_its_kind_and_words() -> None:
    async def fail() -> None:
        raise LookupError("no such model")

    async def run() -> list[Sample]:
        return await open_loop(fail, [0.0], 1)

    (sample,) = _run(run())
    assert (sample.error, sample.text) == ("LookupError", "no such model")


def _samples(*latencies: float) -> list[Sample]:
    return [Sample(i / 10, i / 10, i / 10 + latency) for i, latency in enumerate(latencies)]


def test_percentiles_are_latencies_that_were_measured() -> None:
    summed = report(_samples(*np.arange(1, 1001) / 1e3), seconds=100, batch=1)
    assert summed.latency_ms == pytest.approx(
        {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}, abs=1.01
    )


def test_rates_count_answers_over_the_time_asked_for_or_a_longer_tail() -> None:
    samples = [*_samples(0.1, 0.1, 0.1), Sample(0.3, 0.3, 0.4, "Overloaded", "full")]
    summed = report(samples, seconds=2, batch=5, asked=2.0)
    assert (summed.asked, summed.seconds) == (2, 2)
    assert (summed.requests, summed.answered) == (4, 3)
    assert (summed.requests_per_second, summed.images_per_second) == (1.5, 7.5)
    tail = report([*samples, Sample(1, 1, 6)], seconds=2, batch=5)
    assert (tail.seconds, tail.answered) == (6, 4)
    assert tail.requests_per_second == pytest.approx(4 / 6)


def test_errors_are_counted_by_kind_with_the_first_words_of_each() -> None:
    samples = [Sample(0, 0, 1, kind, f"{kind} {i}") for i, kind in enumerate("abbab")]
    summed = report(samples, seconds=1, batch=1)
    assert list(summed.errors.items()) == [("b", 3), ("a", 2)]
    assert summed.examples == {"b": "b 1", "a": "a 0"}
    assert summed.latency_ms == {}
    assert summed.histogram == ()


def test_the_histogram_holds_every_latency_in_its_bucket_without_gaps() -> None:
    latencies = np.random.default_rng(0).lognormal(-5, 1, 500)
    buckets = report(_samples(*latencies), seconds=1, batch=1).histogram
    assert [low.high_ms for low in buckets[:-1]] == [high.low_ms for high in buckets[1:]]
    for bucket in buckets:
        assert bucket.high_ms / bucket.low_ms == pytest.approx(10**0.1)
        inside = (latencies * 1e3 >= bucket.low_ms) & (latencies * 1e3 < bucket.high_ms)
        assert bucket.count == inside.sum()
    assert sum(bucket.count for bucket in buckets) == 500


def test_the_timeline_says_what_was_done_when() -> None:
    early = [Sample(0, 0, 0.5 + i / 100) for i in range(20)]
    late = [Sample(2, 2, 3, "Overloaded") for _ in range(20)]
    first, second = report(early + late, seconds=4, batch=1).timeline
    assert (first.second, first.answers_per_second, first.errors_per_second) == (0, 10, 0)
    assert first.p50_ms == pytest.approx(595)
    assert (second.second, second.answers_per_second, second.errors_per_second) == (2, 0, 10)
    assert second.p50_ms is None


def test_no_request_at_all_is_a_report_too() -> None:
    summed = report([], seconds=1, batch=1, asked=0.001)
    assert (summed.requests, summed.requests_per_second, summed.sent_late_ms) == (0, 0, 0)


def test_noise_is_images_of_the_seed_with_some_ink() -> None:
    images = noise(50, 3)
    assert images.shape == (50, 28, 28)
    assert images.dtype == np.uint8
    assert (images == noise(50, 3)).all()
    assert (images != noise(50, 4)).any()
    assert (images > 0).mean() == pytest.approx(0.2, abs=0.02)


def test_batches_hold_every_image_and_are_full() -> None:
    images = np.arange(5).repeat(784).reshape(5, 28, 28)
    cut = batches(images, 2)
    assert [batch[:, 0, 0].tolist() for batch in cut] == [[0, 1], [2, 3], [4, 0]]
    assert batches([b"a", b"b"], 3) == [[b"a", b"b", b"a"]]
