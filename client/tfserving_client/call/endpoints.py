"""Which of several servers gets the next attempt: round robin, without those that fail."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Sequence

# Seconds in which one has to be connected to, TLS included, while others can be asked.
NEXT_SERVER = 0.75
_FIRST_REST = 0.5  # seconds that a server is left alone after it failed; doubles each time
_LONGEST_REST = 10.0


class Endpoints:
    """Servers by number. Threads share it without a lock; see `Budget`."""

    def __init__(self, count: int) -> None:
        self._numbers = range(count)
        self._turns = itertools.count()
        self._failures = [0] * count
        self._failed_at = [-_FIRST_REST] * count
        self._rest_until = [0.0] * count

    def __len__(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def choose(self, tried: Collection[int] = ()) -> int:
        """The next server in turn that has not failed lately, if possible none of `tried`."""
        if len(self._numbers) == 1:
            return 0
        number = self._best(next(self._turns), tried)
        if self._failures[number]:
            self._rest(number)  # this attempt is the probe; the others leave it alone until then
        return number

    def spare(self, tried: Sequence[int]) -> int:
        """The server for a second copy, should one be sent: it takes no turn, and is no probe."""
        return self._best(tried[-1] + 1, tried)

    def has_fresh(self, tried: Collection[int]) -> bool:
        """Whether some server was neither tried nor has failed lately."""
        now = time.monotonic()
        return any(n not in tried and self._rest_until[n] <= now for n in self._numbers)

    def worked(self, number: int) -> None:
        """It answered, whatever it said."""
        self._failures[number] = 0
        self._failed_at[number] = -_FIRST_REST
        self._rest_until[number] = 0.0

    def failed(self, number: int) -> None:
        """It did not answer, or not as TensorFlow Serving does."""
        now = time.monotonic()
        if now - self._failed_at[number] < _FIRST_REST:
            return  # many calls that were under way fail at once: that is one failure
        self._failed_at[number] = now
        self._failures[number] += 1
        self._rest(number)

    def _best(self, turn: int, tried: Collection[int]) -> int:
        now = time.monotonic()
        awake = [n for n in self._numbers if self._rest_until[n] <= now]
        candidates = [n for n in awake if n not in tried] or awake
        if candidates:
            return candidates[turn % len(candidates)]
        return min(self._numbers, key=lambda n: (n in tried, self._rest_until[n]))

    def _rest(self, number: int) -> None:
        doubled = _FIRST_REST * 2 ** min(self._failures[number] - 1, 8)
        self._rest_until[number] = time.monotonic() + min(doubled, _LONGEST_REST)
