"""A sliding-window rate limiter shared by many processes, on Redis or Valkey.

Guarantees what `protocol` says for all processes together: `redis_script` decides in one
round trip, by the server's clock. Besides:

- All keys of a namespace carry one hash tag, so that a call's budgets share a slot of a
  Redis Cluster. Give each provider a namespace of its own to spread them.
- A budget known to be used up is refused without a round trip (`redis_door`).
- Every failure of the server is LimiterUnavailable, within the deadline; `fallback` catches it.
- A caller cancelled in the middle of `reserve` gives back what it would have got, as a
  task of the limiter's own asks. Only where the answer itself is lost (deadline,
  connection) may the cost stay booked until it leaves the window: too little is admitted
  then, never too much.
- Settlements are sent by tasks of the limiter's own; leaving the `async with` waits for them,
  each within its deadline. One that fails is counted in `lost`, and its reservation keeps
  the estimate.

The server must not evict (`maxmemory-policy noeviction`): a ledger that it lost, also by a crash
or a failover, has forgotten what was admitted.

What others lack, see `memory`; and on Redis: `limits`' moving window and pyrate-limiter go by each
client's own clock; token-throttle takes locks and several round trips, and does not run on a
Cluster; there, LiteLLM decides on one group of keys after the other.

Needs: redis-py 8, `redis_client`, `redis_script`, `redis_door`, and `reservation`, `ledger`,
`protocol`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from .ledger import MICROSECONDS
from .protocol import (
    Budget,
    LimiterUnavailable,
    RateLimited,
    RateLimitError,
    Reservation,
    Standing,
    costs_of,
)
from .redis_client import DEADLINE, Script
from .redis_door import Door
from .redis_script import WINDOW_SCRIPT
from .reservation import BookedReservation, Booking

CHARGED_AT_ONCE = 200
"""Budgets in one call of `charge`, which holds the server for some 10 µs each."""
_Row = tuple[Budget, *tuple[int, ...]]
"""A budget, and the operation's numbers for it."""


class RedisRateLimiter:
    """The window on a server; open it with `async with`. The client stays the caller's.

    `clock` is this process's own, in seconds; `script` is there for tests that bring a clock.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        namespace: str = "ratelimit",
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        script: str = WINDOW_SCRIPT,
    ) -> None:
        self._script = Script(client, script, deadline=deadline)
        self._namespace = namespace
        self._clock = clock
        self._door = Door(clock)
        self._tasks = asyncio.TaskGroup()
        self._known: dict[Budget, int] = {}  # what was left of the budgets that get corrected
        self.lost = 0
        """Settlements and corrections that did not reach the server."""

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # However the body ended, what it settled is still sent.
        await self._tasks.__aexit__(None, None, None)

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Admit a call under all the budgets, or raise RateLimited or CostAboveLimit.

        LimiterUnavailable: the server does not say, within the deadline.
        """
        costs = costs_of(budgets, tokens=tokens, requests=requests)
        if not budgets:
            return BookedReservation((), (), self._settle)
        self._door.check(budgets, costs)
        decision = self._tasks.create_task(self._decide(budgets, costs))
        try:
            outcome = await asyncio.shield(decision)
        except asyncio.CancelledError:
            self._spawn(_cancel_late(decision))
            raise
        if isinstance(outcome, RateLimitError):
            raise outcome
        return outcome

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Raise RateLimited or CostAboveLimit if the server is known to refuse; asks it nothing."""
        self._door.check(budgets, costs_of(budgets, tokens=tokens, requests=requests))

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget to `remaining`, for `reset` seconds; never raise it.

        Nothing is sent where no more than that was left by the server's last answer.
        """
        if remaining >= self._known.get(budget, budget.limit):
            return
        self._known[budget] = remaining
        duration = budget.window if reset is None else reset
        if duration > 0:
            numbers = (budget.limit, remaining, round(duration * MICROSECONDS))
            self._spawn(self._send("correct", [(budget, *numbers)]))

    async def charge(self, costs: Mapping[Budget, int]) -> None:
        """Count what was admitted elsewhere, from now on; or raise LimiterUnavailable."""
        rows = [(budget, 0, 0, cost) for budget, cost in costs.items()]
        for start in range(0, len(rows), CHARGED_AT_ONCE):
            await self._run("settle", rows[start : start + CHARGED_AT_ONCE])

    async def _decide(
        self, budgets: Sequence[Budget], costs: Sequence[int]
    ) -> Reservation | RateLimitError:
        """Ask the server. Returns its errors too, as a task that raises would end the group."""
        asked = self._clock()
        try:
            admitted, *rows = await self._run(
                "reserve",
                [(b, b.limit, cost) for b, cost in zip(budgets, costs, strict=True)],
            )
        except LimiterUnavailable as error:
            return error
        standings = self._standings(budgets, rows)
        if not admitted:
            return self._refused(budgets, costs, rows, standings, asked)
        bookings = [
            Booking(budget, bucket, cost)
            for budget, cost, (_, _, bucket, *_) in zip(budgets, costs, rows, strict=True)
        ]
        return BookedReservation(bookings, standings, self._settle)

    def _standings(
        self, budgets: Sequence[Budget], rows: Sequence[Sequence[int]]
    ) -> tuple[Standing, ...]:
        standings = tuple(
            Standing(budget, max(0, budget.limit - used), reset / MICROSECONDS)
            for budget, (used, reset, *_) in zip(budgets, rows, strict=True)
        )
        for standing in standings:
            if standing.budget in self._known:
                self._known[standing.budget] = standing.remaining
        return standings

    def _refused(
        self,
        budgets: Sequence[Budget],
        costs: Sequence[int],
        rows: Sequence[Sequence[int]],
        standings: tuple[Standing, ...],
        asked: float,
    ) -> RateLimited:
        for budget, (_, _, wait, now, *buckets) in zip(budgets, rows, strict=True):
            if wait:
                self._door.remember(budget, buckets, now=now, asked=asked)
        longest = max(range(len(rows)), key=lambda i: rows[i][2])
        return RateLimited(
            budgets[longest],
            cost=costs[longest],
            retry_after=rows[longest][2] / MICROSECONDS,
            standings=standings,
        )

    def _settle(self, bookings: Sequence[Booking], used: Sequence[int]) -> None:
        rows = [
            (budget, bucket, cost, actual)
            for (budget, bucket, cost), actual in zip(bookings, used, strict=True)
        ]
        self._spawn(self._send("settle", rows))

    async def _send(self, operation: str, rows: Sequence[_Row]) -> None:
        try:
            await self._run(operation, rows)
        except LimiterUnavailable:
            self.lost += 1

    async def _run(self, operation: str, rows: Sequence[_Row]) -> Any:  # noqa: ANN401
        arguments: list[str | int] = [operation]
        for budget, *numbers in rows:
            arguments += [round(budget.window * MICROSECONDS), *numbers]
        return await self._script.run([self._key(budget) for budget, *_ in rows], arguments)

    def _key(self, budget: Budget) -> str:
        return f"{{{self._namespace}}}:{budget.name}:{float(budget.window)}"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._tasks.create_task(work)
        except RuntimeError:  # the limiter is closed: too late to tell the server
            work.close()
            self.lost += 1


async def _cancel_late(decision: asyncio.Task[Reservation | RateLimitError]) -> None:
    """Give back what a caller that has gone would have got."""
    outcome = await decision
    if not isinstance(outcome, RateLimitError):
        outcome.cancel()
