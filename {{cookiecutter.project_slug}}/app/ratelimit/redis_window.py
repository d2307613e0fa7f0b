"""A sliding-window rate limiter shared by many processes, on Redis or Valkey.

    async with connect(url) as client, RedisRateLimiter(client, processes=4) as limiter:
        reservation = await limiter.reserve([budget], tokens=1200)

Guarantees what `base` says for all processes together, by the server's clock; a decision is one
round trip. All keys share a hash tag, for a cluster. No call fails because of the server or waits
for it longer than the deadline: while it is lost, each of `processes` uses its share of each limit,
less what it was admitted in the last window. What it admits then is counted on the server later. A
caller cancelled in `reserve` gives back what it would have got. Only a lost answer may stay booked.
The server must not evict keys; data that it loses is forgotten.
Needs: redis-py 8, `redis_script`, `memory`, `base`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .base import Booking, Budget, BudgetStatus, RateLimited, Reservation, costs_of
from .memory import MICROSECONDS, RateLimiter
from .redis_script import WINDOW_SCRIPT

DEADLINE = 0.1
"""Seconds a call may take, a wait for a free connection included."""
CHARGED_AT_ONCE = 200
"""Budgets in one message after an outage, which holds the server for some 10 µs each."""
FAILURES = (RedisError, OSError)  # TimeoutError is an OSError, too
Key = tuple[str, float]
"""A budget's name and window."""
Row = tuple[Key, *tuple[int, ...]]
"""A budget, and an operation's numbers for it."""
PROBE: Key = ("probe", 1.0)

log = logging.getLogger(__name__)


def connect(url: str, *, deadline: float = DEADLINE, max_connections: int = 50) -> Redis:
    """Return a client for a URL (redis://, rediss://, unix://) that never repeats a command.

    It connects on first use; the caller closes it.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=deadline,
        socket_connect_timeout=deadline,
        socket_timeout=None,  # redis-py's is asyncio.wait_for, which may swallow a cancel in 3.11
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # else redis-py reads its own version from disk for each connection
    )
    return Redis.from_pool(pool)


class RedisRateLimiter(RateLimiter):
    """The windows on a server; open it with `async with`, and close the client after it.

    `processes` share the limits while the server is lost; `on_change` is called with True when that
    begins and with False when it ends. Another service on the same server has another `namespace`.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        processes: int = 1,
        namespace: str = "ratelimit",
        deadline: float = DEADLINE,
        probe_every: float = 0.5,
        on_change: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(clock=clock)
        retry = client.retry if isinstance(client, RedisCluster) else client.get_retry()
        if retry is not None and retry.get_retries() != 0:
            raise ValueError(
                "the Redis client retries commands, and one whose answer was lost would count "
                "twice: make it with retry=Retry(NoBackoff(), 0)"
            )
        self._script = client.register_script(WINDOW_SCRIPT)
        self._processes = processes
        self._namespace = namespace
        self._deadline = deadline
        self._probe_every = probe_every
        self._on_change = on_change
        self._tasks = asyncio.TaskGroup()
        self._lost = asyncio.Event()
        self._lost_since = 0
        self._left: dict[Budget, int] = {}  # of the budgets that were corrected

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._probing = self._tasks.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._probing.cancel()
        await self._tasks.__aexit__(None, None, None)  # settlements are still sent

    @property
    def degraded(self) -> bool:
        """Whether the server is lost and this process uses its share."""
        return self._lost.is_set()

    async def reserve(self, budgets: Sequence[Budget], *, tokens: int) -> Reservation:
        """Admit a call of this estimated cost under all the budgets; never wait for capacity.

        RateLimited: not now. CostAboveLimit: never.
        """
        costs = costs_of(budgets, tokens=tokens)
        if budgets and not self.degraded:
            decision = self._tasks.create_task(self._decide(budgets, costs))
            try:
                outcome = await asyncio.shield(decision)
            except asyncio.CancelledError:
                self._spawn(_give_back(decision))
                raise
            if isinstance(outcome, RateLimited):
                raise outcome
            if outcome is not None:
                return outcome
        return self._reserve([self._share(budget) for budget in budgets], costs)

    def check(self, budgets: Sequence[Budget]) -> None:
        """Raise RateLimited if this process's share is used up; the server is not asked."""
        if self.degraded:
            super().check([self._share(budget) for budget in budgets])

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget to what the provider reports; never raise it.

        Nothing is sent where no more than that was left after the last decision.
        """
        if self.degraded:
            own = remaining // self._processes
            super().correct(self._share(budget), remaining=own, reset=reset)
        elif remaining < self._left.get(budget, budget.limit):
            self._left[budget] = remaining
            duration = round((budget.window if reset is None else reset) * MICROSECONDS)
            rows = [(_key(budget), budget.limit, remaining, duration)]
            self._spawn(self._send("correct", rows))

    async def _decide(
        self, budgets: Sequence[Budget], costs: Sequence[int]
    ) -> Reservation | RateLimited | None:
        """Ask the server; None if it is lost. A task of the group that raises would end all."""
        rows = [(_key(b), b.limit, cost) for b, cost in zip(budgets, costs, strict=True)]
        try:
            admitted, *replies = await self._run("reserve", rows)
        except FAILURES as error:
            self._go_on_alone(error)
            return None
        statuses = tuple(
            BudgetStatus(budget, max(0, budget.limit - used), reset / MICROSECONDS)
            for budget, (used, reset, _) in zip(budgets, replies, strict=True)
        )
        self._left |= {s.budget: s.remaining for s in statuses if s.budget in self._left}
        answers = [answer for *_, answer in replies]
        if not admitted:
            return RateLimited(statuses, costs, [wait / MICROSECONDS for wait in answers])
        now = self._now()
        self._sweep(now)
        own = self._book(budgets, costs, now)
        return Reservation(own, statuses, partial(self._settle_shared, answers))

    def _settle_shared(
        self, buckets: Sequence[int], bookings: Sequence[Booking], used: Sequence[int]
    ) -> None:
        self._settle(bookings, used)
        rows = [
            (_key(booking.budget), bucket, booking.cost, actual)
            for bucket, booking, actual in zip(buckets, bookings, used, strict=True)
        ]
        self._spawn(self._send("settle", rows))

    def _share(self, budget: Budget) -> Budget:
        return replace(budget, limit=budget.limit // self._processes)

    def _go_on_alone(self, error: Exception) -> None:
        if not self.degraded:
            self._lost_since = self._now()
            self._lost.set()
            reason = f"{type(error).__name__}: {error}"
            log.warning("rate limits: using 1/%d, Redis is lost: %s", self._processes, reason)
            self._on_change(True)

    async def _probe(self) -> None:
        while True:
            await self._lost.wait()
            await asyncio.sleep(self._probe_every)
            with suppress(*FAILURES):
                await self._return_to_server()

    async def _return_to_server(self) -> None:
        """Count on the server what was admitted without it, then let it decide again."""
        now = self._now()
        rows: list[Row] = [(PROBE, 0, 0, 1)]
        for key, ledger in self._ledgers.items():
            ledger.expire(now)
            if used := ledger.used_since(self._lost_since):
                rows.append((key, 0, 0, used))  # bucket 0 has left: counts from now
        for start in range(0, len(rows), CHARGED_AT_ONCE):
            await self._run("settle", rows[start : start + CHARGED_AT_ONCE])
        self._lost.clear()
        log.warning("rate limits: shared on Redis again")
        self._on_change(False)

    async def _send(self, operation: str, rows: Sequence[Row]) -> None:
        try:
            await self._run(operation, rows)
        except FAILURES as error:
            self._go_on_alone(error)

    async def _run(self, operation: str, rows: Sequence[Row]) -> Any:  # noqa: ANN401
        """Return the script's reply about these budgets."""
        keys, arguments = [], [operation]
        for (name, window), *numbers in rows:
            keys.append(f"{{{self._namespace}}}:{name}:{float(window)}")
            arguments += map(str, [round(window * MICROSECONDS), *numbers])
        async with asyncio.timeout(self._deadline):
            return await self._script(keys, arguments)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._tasks.create_task(work)
        except RuntimeError:  # the limiter is closed
            work.close()


def _key(budget: Budget) -> Key:
    return budget.name, budget.window


async def _give_back(decision: asyncio.Task[Reservation | RateLimited | None]) -> None:
    """Cancel what a caller that was cancelled would have got."""
    outcome = await decision
    if isinstance(outcome, Reservation):
        outcome.cancel()
