"""A rate limiter that goes on when the server that keeps the shared window is slow or gone.

Guarantees:

- No call fails because of the server, and none waits for it longer than its deadline: the
  first LimiterUnavailable makes this process's own window take over, with its share of each
  limit, (limit - 5 %) / processes, rounded down.
- The own window knows what this process was admitted by the server in the last window, so
  that a process that has had its share waits first.
- A background probe, one small write every `probe_every` seconds, finds the server back. What was
  admitted meanwhile is then counted there before the server decides again.
- `on_change` and one log line tell of each takeover and each return; `degraded` says how it is now.

While degraded, all processes together stay below the limit as long as no more of them run than
`processes`; a call that costs more than the share is refused until the server is back. In the
window round a takeover or a return the sum can exceed the limit where the load was uneven among
processes, as none of them sees the others then; and by what the server forgot, if it
came back empty.

Needs: `protocol`, `memory`, and a shared window, as `redis_window`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from .memory import MemoryRateLimiter
from .protocol import (
    Budget,
    CostAboveLimit,
    LimiterUnavailable,
    RateLimited,
    RateLimiter,
    Reservation,
    Standing,
    costs_of,
)

MARGIN_PERCENT = 5
"""Of each limit, used by nobody while the processes cannot see each other."""
PROBE = Budget("probe", "requests", limit=1, window=1)


class SharedWindow(RateLimiter, Protocol):
    """A rate limiter on a server, which raises LimiterUnavailable when that does not answer."""

    async def charge(self, costs: Mapping[Budget, int]) -> None:
        """Count what was admitted elsewhere."""
        ...


class FallbackRateLimiter:
    """A shared window, or this process's share of it; open it with `async with`.

    `processes`: how many share the limits. `clock`: nanoseconds that never go backwards.
    """

    def __init__(
        self,
        shared: SharedWindow,
        *,
        processes: int,
        probe_every: float = 0.5,
        on_change: Callable[[bool], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if processes < 1:
            raise ValueError(f"at least one process shares the limits, not {processes}")
        self._shared = shared
        self._processes = processes
        self._probe_every = probe_every
        self._on_change = on_change
        self._clock = clock
        self._own = MemoryRateLimiter(clock=clock)
        self._down = asyncio.Event()
        self._down_since = 0
        self._lent: dict[Budget, None] = {}
        self._tasks = asyncio.TaskGroup()
        self._probing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._probing = self._tasks.create_task(self._probe())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._probing is not None:
            self._probing.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def degraded(self) -> bool:
        """Whether this process decides by itself."""
        return self._down.is_set()

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Admit a call under all the budgets, or raise RateLimited or CostAboveLimit."""
        if not self.degraded:
            try:
                shared = await self._shared.reserve(budgets, tokens=tokens, requests=requests)
            except LimiterUnavailable as error:
                self._take_over(error)
            else:
                own = self._own.record(budgets, tokens=tokens, requests=requests)
                return _Twofold(shared, own)
        return await self._reserve_share(budgets, tokens=tokens, requests=requests)

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Raise RateLimited if a budget, or while degraded this process's share, is used up."""
        if self.degraded:
            costs_of(budgets, tokens=tokens, requests=requests)
            with _until_the_server_is_back():
                shares = [self._share(budget) for budget in budgets]
                self._own.check(shares, tokens=tokens, requests=requests)
        else:
            self._shared.check(budgets, tokens=tokens, requests=requests)

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Lower what is left of a budget; while degraded, a share of it to a share of that."""
        if self.degraded:
            own = remaining // self._processes
            self._own.correct(self._share(budget), remaining=own, reset=reset)
        else:
            self._shared.correct(budget, remaining=remaining, reset=reset)

    async def _reserve_share(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int
    ) -> Reservation:
        costs_of(budgets, tokens=tokens, requests=requests)
        with _until_the_server_is_back():
            shares = [self._share(budget) for budget in budgets]
            reservation = await self._own.reserve(shares, tokens=tokens, requests=requests)
        self._lent.update(dict.fromkeys(budgets))
        return reservation

    def _share(self, budget: Budget) -> Budget:
        return replace(
            budget, limit=budget.limit * (100 - MARGIN_PERCENT) // (100 * self._processes)
        )

    def _take_over(self, error: LimiterUnavailable) -> None:
        if not self.degraded:
            self._down_since = self._clock()
            self._down.set()
            self._tell(f"this process decides alone: {error}")

    async def _probe(self) -> None:
        while True:
            await self._down.wait()
            await asyncio.sleep(self._probe_every)
            await self._hand_back()

    async def _hand_back(self) -> None:
        told = self._admitted_alone()
        try:
            await self._shared.charge({PROBE: 1, **told})
        except LimiterUnavailable:
            return
        late = {b: cost - told.get(b, 0) for b, cost in self._admitted_alone().items()}
        self._down.clear()
        self._tell("the server decides again")
        with suppress(LimiterUnavailable):
            await self._shared.charge({b: cost for b, cost in late.items() if cost > 0})

    def _tell(self, what: str) -> None:
        logging.getLogger(__name__).warning("rate limits: %s", what)
        if self._on_change is not None:
            self._on_change(self.degraded)

    def _admitted_alone(self) -> dict[Budget, int]:
        costs = {b: self._own.used(b, since=self._down_since) for b in self._lent}
        costs = {budget: cost for budget, cost in costs.items() if cost > 0}
        self._lent = dict.fromkeys(costs)
        return costs


@contextmanager
def _until_the_server_is_back() -> Iterator[None]:
    """Refuse for now, not for good, what is above this process's share of a limit only."""
    try:
        yield
    except CostAboveLimit as error:
        share = error.budget
        standing = Standing(share, remaining=share.limit, reset=share.window)
        raise RateLimited(
            share, cost=error.cost, retry_after=share.window, standings=(standing,)
        ) from error


class _Twofold:
    """A reservation of the shared window, which the own window knows of."""

    def __init__(self, shared: Reservation, own: Reservation) -> None:
        self._shared = shared
        self._own = own
        self.standings = shared.standings

    def settle(self, *, tokens: int | None) -> None:
        self._shared.settle(tokens=tokens)
        self._own.settle(tokens=tokens)

    def cancel(self) -> None:
        self._shared.cancel()
        self._own.cancel()
