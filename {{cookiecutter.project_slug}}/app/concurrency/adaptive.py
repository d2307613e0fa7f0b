"""Finds out how many calls at once the provider serves, and sets a limiter's limit to that.

Additive increase, multiplicative decrease, by round trips: a refusal takes off a fifth, once per
round trip; as many successes as the limit is high, with at least half of it in flight, add 1. One
below the limit that was last refused, 8 to 16 such rounds pass before the next trial. The
provider's Retry-After pauses the limiter.

Report a success at the first token; report overload for 429, 503, 529 and a late first token.
Nothing else is evidence of load. Needs `limiter.py` beside it.
"""

import asyncio
from math import inf
from random import random

from .limiter import ConcurrencyLimiter

DECREASE = 0.8
"""What a refusal leaves of the limit: a wrong one costs little, and 100 gets to 12 in ten."""
MAX_PAUSE = 60.0
"""Seconds; a Retry-After may be longer."""
ROUNDS_BEFORE_TRIAL = 8
"""At a limit of 12, one trial in 100 to 200 calls: at random, so that processes differ."""


class AdaptiveLimit:
    """Sets `limiter.limit`, from what it is now, between 1 and `maximum`."""

    def __init__(self, limiter: ConcurrencyLimiter, *, maximum: int) -> None:
        self._limiter = limiter
        self._maximum = maximum
        self._changed_at = self._decreased_at = -inf
        self._successes = 0
        self._refused_limit = 0
        self._rounds_before_trial = 0.0

    def on_success(self, started_at: float) -> None:
        """Report that a call which started at that time of the event loop was served."""
        limit = self._limiter.limit
        if started_at < self._changed_at or self._limiter.in_flight * 2 < limit:
            return
        self._successes += 1
        rounds = self._rounds_before_trial if limit + 1 == self._refused_limit else 1.0
        if limit < self._maximum and self._successes >= rounds * limit:
            self._set_limit(limit + 1)

    def on_overload(self, started_at: float, retry_after: float | None = None) -> None:
        """Report that a call which started at that time was refused, and for how long to pause."""
        if retry_after is not None and retry_after > 0:
            self._limiter.pause(min(retry_after, MAX_PAUSE))
        if started_at <= self._decreased_at:
            return  # the last decrease answered this already
        self._refused_limit = self._limiter.limit
        self._rounds_before_trial = ROUNDS_BEFORE_TRIAL * (1.0 + random())  # noqa: S311 -- no secret
        self._set_limit(max(1, int(self._limiter.limit * DECREASE)))
        self._decreased_at = self._changed_at

    def _set_limit(self, limit: int) -> None:
        self._changed_at = asyncio.get_running_loop().time()
        self._successes = 0
        self._limiter.limit = limit
