"""How many replicas a rate and a p99 need, by queueing theory, from what `tune` measured of one.

A replica is known by three figures: the latency of a single request (S, log-normal by its p50 and
p99), the highest throughput in requests per second (μ), and, with batching, how long a batch of b
takes. By Little's law it works on μ·S requests, or μ·S(b)/b batches, at once: its lanes.

**One by one** all lanes of all replicas are one queue, M/G/c: requests come at random (Poisson) and
independently, and the gateway gives each to the least busy replica. A request waits with a
probability of ρ^(√(2(c+1))−1), c lanes that are busy to ρ (Sakasegawa, "An approximation formula
Lq ≃ α·ρ^β/(1−ρ)", Annals of the Institute of Statistical Mathematics 29, 1977), and a waiting
request waits for an exponential time of mean S/(c(1−ρ))·(1+cv²)/2, cv the standard deviation of S
over its mean (Allen, "Probability, Statistics and Queueing Theory", 1978: Allen and Cunneen's
formula).

**In batches** that do not wait to be full, a lane takes all that came while its last batch ran,
and S(b) grows linearly with b (Inoue, "Queueing analysis of GPU-based inference servers with
dynamic batching", Performance Evaluation 147, 2021). Batch sizes then are a process of counts whose
mean follows the size before (INARCH(1): Ferland, Latour and Oraichi, "Integer-valued GARCH
process", Journal of Time Series Analysis 27, 2006); its stationary mean and variance are known. A
request waits for what is left of the batch that runs, and for its own, which is the larger the
longer that one was. The gateway gives each request to the least busy replica, so n replicas share
what chance brings: the number of a replica's arrivals has an n-th of a Poisson process's variance.

Batching can only help, so the smaller of both p99 is used. `capacity.md` says where neither holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from deploy.release.service import Service

MOST_BUSY = 0.8  # planned share of the highest throughput; above it p99 cannot be predicted
_MOST_REPLICAS = 10**12  # a search ends
_SHARE = 0.01  # of the requests may take longer
_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(1 - _SHARE)

Samples = NDArray[np.float64]


class TooSlow(Exception):
    """No number of replicas can answer within the limit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for a rate.

    Attributes:
        rate: requests per second, of one row each.
        replicas: the fewest that answer 99 of 100 within the limit and are busy to MOST_BUSY.
        busy: share of the most that they answer.
        p99_ms: of a request.
        p99_one_lost_ms: the same while one replica is away; infinite if the others cannot keep up.
    """

    rate: float
    replicas: int
    busy: float
    p99_ms: float
    p99_one_lost_ms: float


def plan(service: Service, rate: float, limit: float) -> Plan:
    """The fewest replicas that answer 99 of 100 of `rate` requests a second within `limit` ms.

    Raises:
        TooSlow: a request alone takes longer, or nearly as long.
    """

    def is_enough(replicas: int) -> bool:
        busy = rate / (replicas * service.requests_per_second)
        return busy <= MOST_BUSY and p99(service, rate, replicas) <= limit

    low, high = 0, 1
    while not is_enough(high):
        low, high = high, 2 * high
        if limit < service.p99_ms or high > _MOST_REPLICAS:
            raise TooSlow(
                f"99 of 100 requests alone take up to {service.p99_ms:.3g} ms, so no number of "
                f"replicas answers {rate:,.12g} per second within {limit:g} ms: use a faster "
                "model or device, or a higher --p99-ms"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return Plan(
        rate=rate,
        replicas=high,
        busy=rate / (high * service.requests_per_second),
        p99_ms=p99(service, rate, high),
        p99_one_lost_ms=p99(service, rate, high - 1) if high > 1 else math.inf,
    )


def given(p50_ms: float, p99_ms: float, lanes: int) -> Service:
    """A replica that was not measured, without batching.

    Args:
        p50_ms: of a request alone.
        p99_ms: of the same.
        lanes: how many requests it works on at once, each as fast as alone.
    """
    mean = p50_ms * math.exp(_sigma(p50_ms, p99_ms) ** 2 / 2)
    return Service(
        p50_ms, p99_ms, 1e3 * lanes / mean, 1, p50_ms, lanes, 0, "from the options, not measured"
    )


def p99(service: Service, rate: float, replicas: int) -> float:
    """Milliseconds that 99 of 100 requests take at most; infinite if they cannot keep up."""
    sigma = _sigma(service.p50_ms, service.p99_ms)
    mean = service.p50_ms * math.exp(sigma**2 / 2) / 1e3
    batch = service.batch_ms * math.exp(sigma**2 / 2) / 1e3
    lanes = replicas * service.requests_per_second * batch / service.batch_rows
    if rate >= replicas * service.requests_per_second:
        return math.inf
    found = _one_by_one(mean, sigma, rate, lanes)
    if service.batch_rows > 1:
        each = (batch - mean) / (service.batch_rows - 1)
        variation = math.expm1(sigma**2)
        found = min(
            found, _batched(mean, each, variation, rate / lanes, service.batch_rows, replicas)
        )
    return 1e3 * found


def _sigma(p50: float, p99: float) -> float:
    """Of a log-normal distribution's logarithm."""
    return math.log(p99 / p50) / _Z99


def _one_by_one(mean: float, sigma: float, rate: float, lanes: float) -> float:
    """Seconds, for a mean service time in seconds, and the sigma of its logarithm."""
    busy = rate * mean / lanes
    if busy >= 1:  # but not in batches
        return math.inf
    waiting = busy ** (math.sqrt(2 * (lanes + 1)) - 1)
    wait = mean / (lanes * (1 - busy)) * math.exp(sigma**2) / 2  # 1 + cv² = exp(sigma²)
    service = _log_normal(mean, math.expm1(sigma**2), 200)
    p50 = mean * math.exp(-(sigma**2) / 2)

    def longer(than: float) -> float:
        left = than - service
        in_time = waiting * np.exp(-np.maximum(left, 0) / wait)
        alone = 1 - _NORMAL.cdf(math.log(than / p50) / sigma) if sigma else float(than < p50)
        return alone + float((in_time * (left >= 0)).mean())

    return _quantile(longer)


def _batched(
    alone: float, each: float, variation: float, rate: float, rows: int, replicas: int
) -> float:
    """Seconds in one lane; infinite where more than 1 of 100 batches leaves somebody behind.

    Args:
        alone: mean seconds of a batch of one.
        each: seconds that a further row takes.
        variation: cv² of a batch's time.
        rate: requests per second of the lane.
        rows: of the largest batch.
        replicas: that share the arrivals.
    """
    grows = (rate * each) ** 2 * (1 + variation)
    if rate * each >= 1 or grows >= 1:
        return math.inf
    size = rate * max(alone - each, 0.0) / (1 - rate * each)
    variance = (size / replicas + variation * size**2) / (1 - grows)
    if size + _Z99 * math.sqrt(variance) > rows:
        return math.inf
    size = max(size, 1.0)
    time = alone + each * (size - 1)
    # Of the batch that runs, seen by who arrives: the longer, the more arrive in it.
    now = _log_normal(time, _sum(variation, variance * (each / time) ** 2), 200)[:, np.newaxis]
    seen = now / now.sum()
    following = np.maximum(alone, alone + each * (rate * now - 1))
    own = following * _log_normal(1.0, _sum(variation, size / replicas * (each / time) ** 2), 200)

    def longer(than: float) -> float:
        return float((seen * np.clip((own + now - than) / now, 0, 1)).sum() / own.shape[1])

    return _quantile(longer)


def _sum(first: float, second: float) -> float:
    """cv² of a product of two factors."""
    return (1 + first) * (1 + second) - 1


def _log_normal(mean: float, variation: float, count: int) -> Samples:
    """So many equally probable values of a log-normal distribution, by its mean and cv²."""
    normal = np.array([_NORMAL.inv_cdf((i + 0.5) / count) for i in range(count)])
    spread = math.log1p(variation)
    return mean * np.exp(math.sqrt(spread) * normal - spread / 2)


def _quantile(longer: Callable[[float], float]) -> float:
    """The time that a share of _SHARE exceeds, by the share that exceeds a time."""
    low, high = 0.0, 1e-6
    while longer(high) > _SHARE:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if longer(middle) > _SHARE else (low, middle)
    return high
