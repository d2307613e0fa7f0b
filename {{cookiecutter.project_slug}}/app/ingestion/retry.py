"""Trying again what can heal: seldom, spread out, in time, and not when everything fails.

- A call is tried again if its error says that it `heals`; except WebBusyError, since that call has
  waited for a slot for as long as it may, and would only join the queue again.
- The wait is drawn between nothing and a bound that doubles with each attempt ("full jitter": of
  all schemes it makes the fewest calls in AWS' comparison), so that callers that failed together
  do not come back together. Where the other side has said how long to stay away, all of that
  comes first.
- A wait that would not end within the deadline is not begun: the error is raised at once.
- All calls of a client share a budget of retries, as in Finagle and gRPC. Without it, three
  attempts a call are three times the load on a service that is down.

    retry = Retry(RetryBudget())
    answer = await retry.run(call, within=30.0)

Needs: `protocol.py` beside it.
Sources: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/;
https://github.com/grpc/proposal/blob/master/A6-client-retries.md (retry throttling);
https://twitter.github.io/finagle/guide/Clients.html#retries; RFC 9110, 10.2.3 (Retry-After).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from random import random
from typing import TypeVar

from .protocol import WebBusyError, WebError

Answer = TypeVar("Answer")


class RetryBudget:
    """Of any number of calls, at most this part is retried, and `reserve` times more.

    The reserve is there at first, and fills up again with later calls. It lets a client that
    makes few calls retry them.
    """

    def __init__(self, *, ratio: float = 0.2, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = self._tokens = reserve

    def deposit(self) -> None:
        """Count a call, however often it is tried."""
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        """Take one retry out, if there is one left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Retry:
    """Up to `attempts` tries of a call; one object for all calls that share a budget.

    Waits are in seconds: the first is up to `first_wait`, none is drawn above `longest_wait`.
    """

    def __init__(
        self,
        budget: RetryBudget,
        *,
        attempts: int = 3,
        first_wait: float = 0.5,
        longest_wait: float = 8.0,
        random: Callable[[], float] = random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._budget = budget
        self._attempts = attempts
        self._first_wait, self._longest_wait = first_wait, longest_wait
        self._random, self._sleep = random, sleep

    async def run(self, call: Callable[[], Awaitable[Answer]], *, within: float) -> Answer:
        """Return what the call does, or raise its last WebError; TimeoutError after `within` s."""
        ends_at = asyncio.get_running_loop().time() + within
        self._budget.deposit()
        attempt = 1
        async with asyncio.timeout_at(ends_at):
            while True:
                try:
                    return await call()
                except WebError as error:
                    wait = self._wait(error, attempt)
                    if not self._may_retry(error, attempt, wait, ends_at):
                        raise
                attempt += 1
                await self._sleep(wait)

    def _wait(self, error: WebError, attempt: int) -> float:
        drawn_from = min(self._longest_wait, self._first_wait * 2.0 ** (attempt - 1))
        return (error.retry_after or 0.0) + drawn_from * self._random()

    def _may_retry(self, error: WebError, attempt: int, wait: float, ends_at: float) -> bool:
        if not error.heals or isinstance(error, WebBusyError) or attempt >= self._attempts:
            return False
        in_time = asyncio.get_running_loop().time() + wait < ends_at
        return in_time and self._budget.withdraw()


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date; `now` is in seconds since the epoch.

    None where it says nothing that makes sense.
    """
    try:
        seconds = float(value or "nan")
    except ValueError:
        seconds = _date(value or "") - now
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _date(value: str) -> float:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return math.nan
