"""A ceiling that finds out how many calls at once the provider bears, and follows it.

    ceiling = AdaptiveCeiling(limiter, maximum=20)

    async with limiter.slot(api_key):
        started_at = loop.time()
        try:
            stream = await open_stream()  # up to the first token
        except ProviderOverloadedError as error:  # 429, 503, 529, no first token in time
            ceiling.on_overload(started_at, error.retry_after)
            raise
        ceiling.on_success(started_at)
        ...

Needs `limiter.py` beside it, of which it sets `limit` and calls `pause`. It is to be told of no
other outcome: a client that left, a 4xx and a stream that broke off say nothing of how much load
the provider bears, nor does the length of a stream.

The rule is additive increase and multiplicative decrease, judged by whole round trips:
- a decrease takes off a fifth, down to 1. A refusal counts unless its call began before the last
  decrease, so there is one decrease a round trip, however many calls are refused at once;
- an increase adds 1, when as many calls as the limit is high have been served that began under
  this limit, counting those that are served with at least half of the limit in flight: an idle
  service proves nothing;
- one below the limit that was last refused, it stays for 8 to 16 such rounds, a random number, and
  then tries again: so refusals stay rare (at a limit of 12, below one call in a hundred), and the
  processes of a fleet do not try all at once. Once a trial gets through, the way up is free;
- the provider's Retry-After is a pause of the limiter, of 60 s at most by default.

From Netflix' concurrency-limits (AIMDLimit, WindowedLimit): loss-based AIMD, the rule that less
than half in flight is no evidence, and that a window of calls is judged rather than each. Left:
its +1 for every single call, which doubles the limit in a round trip; and the latency gradient
(Vegas, Gradient2), as is Envoy's gradient controller, whose limit follows minRTT / sampled RTT.
The latency of a language model varies tenfold with the prompt and the answer, so its gradient
measures the users; and a hosted provider rejects rather than queues, so that loss is the signal.
From Envoy: jitter on the probe for what the upstream bears. Left: its shrinking to a few calls in
order to measure an idle upstream.
"""

import asyncio
from collections.abc import Callable
from math import inf
from random import random

from .limiter import ConcurrencyLimiter

DECREASE = 0.8
"""What a refusal leaves of the limit: it costs little to be wrong, and 100 gets to 12 in ten."""

LEAST_ROUNDS_BEFORE_PROBE = 8
"""At a limit of 12, a trial for about 100 calls at the most; with jitter, up to twice as many."""


class AdaptiveCeiling:
    """Sets `limiter.limit`, from what it is now, between 1 and `maximum`.

    `longest_pause`, in seconds, bounds what a Retry-After may ask for. `jitter` returns random
    numbers between 0 and 1.
    """

    def __init__(
        self,
        limiter: ConcurrencyLimiter,
        *,
        maximum: int,
        longest_pause: float = 60.0,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._limiter = limiter
        self._maximum = maximum
        self._longest_pause = longest_pause
        self._jitter = jitter
        self._changed_at = self._decreased_at = -inf
        self._successes = 0
        self._refused_limit = 0
        self._rounds_before_probe = 0.0

    def on_success(self, started_at: float) -> None:
        """Note that a call which began at that time of the event loop was served."""
        limit = self._limiter.limit
        if started_at < self._changed_at or self._limiter.in_flight * 2 < limit:
            return
        self._successes += 1
        rounds = self._rounds_before_probe if limit + 1 == self._refused_limit else 1.0
        if limit < self._maximum and self._successes >= rounds * limit:
            self._change_limit(limit + 1)

    def on_overload(self, started_at: float, retry_after: float | None = None) -> None:
        """Note that a call which began at that time was too much; pause for `retry_after` s."""
        if retry_after is not None and retry_after > 0:
            self._limiter.pause(min(retry_after, self._longest_pause))
        if started_at <= self._decreased_at:
            return
        self._refused_limit = self._limiter.limit
        self._rounds_before_probe = LEAST_ROUNDS_BEFORE_PROBE * (1.0 + self._jitter())
        self._change_limit(max(1, int(self._limiter.limit * DECREASE)))
        self._decreased_at = self._changed_at

    def _change_limit(self, limit: int) -> None:
        self._changed_at = asyncio.get_running_loop().time()
        self._successes = 0
        self._limiter.limit = limit
