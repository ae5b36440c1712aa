"""Where the time of a call goes: each step by itself, in microseconds.

The steps are done by hand, one after the other, and then the client does them all; so by turns.
What the client takes more than their sum is its own: which server, how long, whether to try again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.paired import Row, Work
from tfserving_client import AsyncDigitClient, CallContext, DigitClient
from tfserving_client.call.exchange import Exchange
from tfserving_client.call.steps import Send
from tfserving_client.call.target import parse
from tfserving_client.serving import protocols
from tfserving_client.serving.rows import Rows

_TIMES = 500


def of_a_call(
    what: str, context: CallContext, prepare: Callable[[], Rows], ours: Work, bare: Work
) -> Iterator[Row]:
    """The steps of one call.

    Args:
        what: names the call in the table.
        context: what is asked of whom.
        prepare: from what a caller holds to tensors.
        ours: the same call by a client.
        bare: the same bytes, made before, by a bare channel or connection.
    """
    (target,) = parse(context.endpoint)
    wire, transport = protocols.wire(target.grpc), protocols.transport(target)

    def by_hand() -> Iterator[None]:
        rows = prepare()
        yield
        exchange = wire.predict(context, rows.inputs, rows.outputs, rows.declared)
        yield
        unread: Exchange[bytes] = Exchange(context, exchange.method, exchange.body, bytes)
        body = transport.send(unread, 10, {})
        yield
        prediction = exchange.decode(body)
        yield
        rows.answers.read(context, prediction, len(rows))
        yield

    try:
        times = [(*_times(by_hand()), _time(ours), _time(bare)) for _ in range(_TIMES)]
    finally:
        transport.close()
    *steps, whole, bare_time = (1e6 * statistics.median(step) for step in zip(*times, strict=True))
    steps.append(whole - sum(steps))
    names = ("checking", "encoding", "sending and receiving", "decoding", "reading", "the rest")
    for name, taken in zip(names, steps, strict=True):
        peer = f"{bare_time:.0f}" if name == "sending and receiving" else "–"
        yield _row(what, name, taken, whole, peer)


def _times(steps: Iterator[None]) -> Iterator[float]:
    started = time.perf_counter()
    for _ in steps:
        yield time.perf_counter() - started
        started = time.perf_counter()


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _row(what: str, name: str, taken: float, whole: float, peer: str = "–") -> Row:
    figure = f"{what}, {name}, µs; the ratio is its share of {whole:,.0f}"
    return Row(figure, f"{taken:.1f}", peer, taken / whole, None)


def of_callers(what: str, client: DigitClient | AsyncDigitClient, work: Work) -> Iterator[Row]:
    """How the time of a merged request is spent, of which there is one at a time.

    Args:
        what: names the callers in the table.
        client: whose calls are merged.
        work: many calls by it.
    """
    work()
    (home,) = client._homes.values()
    seconds: list[float] = []
    send = home.send
    home.send = (
        _watched(send, seconds) if isinstance(client, DigitClient) else _awaited(send, seconds)
    )
    started = time.perf_counter()
    images = sum(work() for _ in range(20))
    whole = 1e6 * (time.perf_counter() - started) / len(seconds)
    home.send = send
    sending = 1e6 * statistics.fmean(seconds)
    what += f", a request of {images / len(seconds):.1f} digits"
    yield _row(what, "in flight", sending, whole)
    yield _row(what, "between requests", whole - sending, whole)


def _watched(send: Callable[[Send], Any], seconds: list[float]) -> Callable[[Send], Any]:
    def watched(step: Send) -> Any:
        started = time.perf_counter()
        answer = send(step)
        seconds.append(time.perf_counter() - started)
        return answer

    return watched


def _awaited(send: Callable[[Send], Any], seconds: list[float]) -> Callable[[Send], Any]:
    async def watched(step: Send) -> Any:
        started = time.perf_counter()
        answer = await send(step)
        seconds.append(time.perf_counter() - started)
        return answer

    return watched
