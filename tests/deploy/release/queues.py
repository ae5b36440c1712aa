"""Replicas as a simulation: every request, every batch."""

from __future__ import annotations

import heapq
import math
import random
from statistics import NormalDist

from deploy.release.service import Service


def p99(service: Service, lanes: int, rate: float, replicas: int, requests: int) -> float:
    """Milliseconds that 99 of 100 simulated requests took at most.

    They come at random, each goes to the replica with the fewest, and waits in line there until one
    of its lanes is free, which takes all that wait, up to a batch.
    """
    rng = random.Random(1)
    sigma = math.log(service.p99_ms / service.p50_ms) / NormalDist().inv_cdf(0.99)
    each = (service.batch_ms - service.p50_ms) / max(1, service.batch_rows - 1)
    open_, free = [0] * replicas, [lanes] * replicas
    waiting: list[list[float]] = [[] for _ in range(replicas)]
    running: list[tuple[float, int, list[float]]] = []  # until when, where, since when each waited
    took: list[float] = []

    def begin(replica: int, now: float) -> None:
        line = waiting[replica]
        if free[replica] and line:
            batch, line[:] = line[: service.batch_rows], line[service.batch_rows :]
            free[replica] -= 1
            milliseconds = service.p50_ms + each * (len(batch) - 1)
            end = now + 1e-3 * milliseconds * rng.lognormvariate(0, sigma)
            heapq.heappush(running, (end, replica, batch))

    now = 0.0
    for _ in range(requests):
        now += rng.expovariate(rate)
        while running and running[0][0] <= now:
            end, replica, batch = heapq.heappop(running)
            took += [end - since for since in batch]
            open_[replica] -= len(batch)
            free[replica] += 1
            begin(replica, end)
        replica = min(range(replicas), key=lambda one: (open_[one], rng.random()))
        open_[replica] += 1
        waiting[replica].append(now)
        begin(replica, now)
    steady = sorted(took[len(took) // 10 :])
    return 1e3 * steady[math.ceil(0.99 * len(steady)) - 1]
