"""When a failed call is tried again, and when not: decisions only, no waiting and no sending."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tfserving_client.call.arguments import checked_count, checked_seconds, checked_share

_RESERVE = 100.0  # retries that a client may make in one burst, whatever came before


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a call may take, and how it is tried again.

    Only what may pass by itself is tried again: no connection, a server that is full, shutting
    down or still loading, an attempt that took too long. What the server asks for (`Retry-After`,
    gRPC's `grpc-retry-pushback-ms`) overrides the waits below. With several targets the next
    attempt goes to another one, at once.

    Attributes:
        timeout: seconds for a call, all its attempts and waits together.
        attempts: the most attempts for a call; 1 tries nothing again.
        attempt_timeout: seconds for one attempt; None leaves each what is left of `timeout`.
        first_wait: seconds before the second attempt. It doubles from attempt to attempt, and each
            is shortened by up to half at random, so that clients do not come back in step.
        longest_wait: seconds, the most that is waited between two attempts.
        retry_share: retries that are allowed in the long run, as a share of calls. In an outage
            this keeps the clients from multiplying the load.
        hedge_after: seconds without an answer after which a second copy of the request is sent (to
            another target if there is one); the first answer counts. It cuts the slowest calls
            short, and costs one more request for each slower call, which counts as a retry
            in `retry_share`. None: never.

    Raises:
        InvalidInput: a value out of its range.
    """

    timeout: float = 10.0
    attempts: int = 4
    attempt_timeout: float | None = None
    first_wait: float = 0.05
    longest_wait: float = 2.0
    retry_share: float = 0.2
    hedge_after: float | None = None

    def __post_init__(self) -> None:
        checked_seconds("timeout", self.timeout)
        checked_count("attempts", self.attempts)
        for name in ("attempt_timeout", "hedge_after"):
            if (seconds := getattr(self, name)) is not None:
                checked_seconds(name, seconds)
        checked_seconds("first_wait", self.first_wait, zero=True)
        checked_seconds("longest_wait", self.longest_wait, zero=True)
        checked_share("retry_share", self.retry_share)

    def waits(self) -> Iterator[float]:
        """Seconds to wait before the second attempt, the third, and so on."""
        wait = self.first_wait
        while True:
            wait = min(wait, self.longest_wait)
            yield wait * random.uniform(0.5, 1)
            wait *= 2


class Budget:
    """Retries that may still be made: every call earns a share of one, every retry spends one.

    Threads share it without a lock: a lost update is a fraction of a retry, and a lock that is
    held during a fork would stay held in the child.
    """

    def __init__(self, policy: Policy) -> None:
        self._share = policy.retry_share
        self._left = _RESERVE if policy.retry_share else 0.0

    def earn(self) -> None:
        """A call was made."""
        self._left = min(self._left + self._share, _RESERVE)

    def spend(self) -> bool:
        """Take one retry, if one is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
