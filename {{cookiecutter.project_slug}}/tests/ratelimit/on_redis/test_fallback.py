"""When the shared window does not answer, this process goes on with its share of the limits."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from app.ratelimit.fallback import PROBE, FallbackRateLimiter
from app.ratelimit.memory import MemoryRateLimiter
from app.ratelimit.protocol import (
    Budget,
    CostAboveLimit,
    LimiterUnavailable,
    RateLimited,
    Reservation,
)
from tests.ratelimit.contract import requests, tokens
from tests.ratelimit.on_redis.changes import Changes
from tests.ratelimit.test_memory import Clock


class Server:
    """A shared window that can be switched off."""

    def __init__(self, clock: Clock) -> None:
        self.window = MemoryRateLimiter(clock=clock)
        self.down = False
        self.asked = 0
        self.probed = asyncio.Event()
        self.charged: list[dict[Budget, int]] = []

    async def reserve(
        self, budgets: Sequence[Budget], *, tokens: int, requests: int = 1
    ) -> Reservation:
        """Decide, unless it is down."""
        self.asked += 1
        self._answer()
        return await self.window.reserve(budgets, tokens=tokens, requests=requests)

    def check(self, budgets: Sequence[Budget], *, tokens: int = 1, requests: int = 1) -> None:
        """Check by the window, which knows all."""
        self.window.check(budgets, tokens=tokens, requests=requests)

    def correct(self, budget: Budget, *, remaining: int, reset: float | None = None) -> None:
        """Correct; nobody hears of it where that fails."""
        self.window.correct(budget, remaining=remaining, reset=reset)

    async def charge(self, costs: Mapping[Budget, int]) -> None:
        """Count, unless it is down."""
        self.probed.set()
        self._answer()
        self.charged.append(dict(costs))
        for budget, cost in costs.items():
            self.window.record([budget], tokens=cost, requests=cost)

    def _answer(self) -> None:
        if self.down:
            raise LimiterUnavailable("switched off", retry_after=0.1)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of both windows."""
    return Clock()


@pytest.fixture
async def server(clock: Clock) -> Server:
    """Return a server that is up."""
    return Server(clock)


@pytest.fixture
async def changes() -> Changes:
    """Return what the limiter tells."""
    return Changes()


@pytest.fixture
async def limiter(
    server: Server, clock: Clock, changes: Changes
) -> AsyncIterator[FallbackRateLimiter]:
    """Return one of four processes' limiters, which probes a hundred times a second."""
    async with FallbackRateLimiter(
        server, processes=4, probe_every=0.01, on_change=changes, clock=clock
    ) as limiter:
        yield limiter


async def left(limiter: FallbackRateLimiter, budget: Budget) -> int:
    """Return what is left of a budget."""
    return (await limiter.reserve([budget], tokens=0, requests=0)).standings[0].remaining


async def test_server_decides_while_it_answers(
    limiter: FallbackRateLimiter, server: Server, changes: Changes
) -> None:
    """As long as the server answers, its window is the one that counts, settlements too."""
    (await limiter.reserve([tokens(100)], tokens=90)).settle(tokens=60)
    (await limiter.reserve([tokens(100)], tokens=30)).cancel()
    assert await left(limiter, tokens(100)) == 40
    with pytest.raises(RateLimited):
        await limiter.reserve([tokens(100)], tokens=41)
    assert (server.asked, limiter.degraded, changes) == (4, False, [])


async def test_share_is_the_limit_less_five_percent_by_processes(
    limiter: FallbackRateLimiter, server: Server
) -> None:
    """While the server is away each of four processes has a quarter of 95 % of every limit."""
    server.down = True
    for _ in range(23):
        await limiter.reserve([requests(100)], tokens=1)
    with pytest.raises(RateLimited) as refusal:
        await limiter.reserve([requests(100)], tokens=1)
    assert refusal.value.budget == requests(23)
    assert server.asked == 1


async def test_takeover_is_told_once(
    limiter: FallbackRateLimiter,
    server: Server,
    changes: Changes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Losing the server takes one log line and one call of the hook, however many notice."""
    caplog.set_level(logging.INFO, "app.ratelimit")
    server.down = True
    await asyncio.gather(*(limiter.reserve([requests(100)], tokens=1) for _ in range(9)))
    assert changes == [True]
    assert [r.getMessage() for r in caplog.records] == [
        "rate limits: this process decides alone: switched off"
    ]
    server.down = False
    await changes.reach(2)
    assert changes == [True, False]
    assert [r.getMessage() for r in caplog.records[1:]] == ["rate limits: the server decides again"]


async def test_own_share_counts_what_the_server_admitted(
    limiter: FallbackRateLimiter, server: Server, clock: Clock
) -> None:
    """A process that has had its share from the server waits until that leaves its window."""
    (await limiter.reserve([tokens(100)], tokens=30)).settle(tokens=20)
    await clock.advance(10)
    server.down = True
    await limiter.reserve([tokens(100)], tokens=3)
    with pytest.raises(RateLimited) as refusal:
        await limiter.reserve([tokens(100)], tokens=1)
    assert refusal.value.retry_after == pytest.approx(50.7)


async def test_server_hears_what_was_admitted_without_it(
    limiter: FallbackRateLimiter, server: Server, changes: Changes, clock: Clock
) -> None:
    """Before the server decides again it counts what this process admitted alone."""
    await limiter.reserve([tokens(100), requests(50)], tokens=9)
    await clock.advance(2)
    server.down = True
    (await limiter.reserve([tokens(100), requests(50)], tokens=13)).settle(tokens=7)
    assert await left(limiter, tokens(100, "unused")) == 23
    server.probed.clear()
    await server.probed.wait()
    assert limiter.degraded
    server.down = False
    await changes.reach(2)
    assert server.charged[0] == {PROBE: 1, tokens(100): 7, requests(50): 1}
    assert await left(limiter, tokens(100)) == 84
    assert not limiter.degraded


async def test_admission_during_the_handing_back_is_not_lost(server: Server, clock: Clock) -> None:
    """What is admitted while the server is being told is told as well."""
    told, go_on = asyncio.Event(), asyncio.Event()

    class SlowServer(Server):
        async def charge(self, costs: Mapping[Budget, int]) -> None:
            await super().charge(costs)
            told.set()
            await go_on.wait()

    slow = SlowServer(clock)
    async with FallbackRateLimiter(slow, processes=4, probe_every=0.01, clock=clock) as limiter:
        slow.down = True
        await limiter.reserve([tokens(100)], tokens=5)
        slow.down = False
        await told.wait()
        await limiter.reserve([tokens(100)], tokens=8)
        go_on.set()
        async with asyncio.timeout(5):
            while len(slow.charged) < 2:  # noqa: ASYNC110 -- each turn brings it nearer
                await asyncio.sleep(0)
    assert slow.charged == [{PROBE: 1, tokens(100): 5}, {tokens(100): 8}]


async def test_second_takeover_starts_anew(
    limiter: FallbackRateLimiter, server: Server, changes: Changes, clock: Clock
) -> None:
    """What was handed back once is not handed back again after the next takeover."""
    for number, cost in enumerate((5, 6), start=1):
        server.down = True
        await limiter.reserve([tokens(100)], tokens=cost)
        await clock.advance(3)
        server.down = False
        await changes.reach(2 * number)
    assert [costs[tokens(100)] for costs in server.charged if PROBE in costs] == [5, 6]


async def test_cost_above_the_share_waits_for_the_server(
    limiter: FallbackRateLimiter, server: Server
) -> None:
    """A call that only the whole limit can hold is refused for now; one above that, for good."""
    server.down = True
    with pytest.raises(RateLimited) as refusal:
        await limiter.reserve([tokens(100)], tokens=24)
    assert refusal.value.retry_after == 60
    with pytest.raises(CostAboveLimit, match="tier:tokens: 100"):
        await limiter.reserve([tokens(100)], tokens=101)


async def test_door_is_the_servers_or_the_shares(
    limiter: FallbackRateLimiter, server: Server
) -> None:
    """What is refused at the door is what the server knows, or while degraded the share."""
    await limiter.reserve([tokens(100)], tokens=60)
    limiter.check([tokens(100)], tokens=40)
    with pytest.raises(RateLimited):
        limiter.check([tokens(100)], tokens=41)
    server.down = True
    await limiter.reserve([requests(100)], tokens=1)
    with pytest.raises(RateLimited):
        limiter.check([tokens(100)], tokens=1)
    with pytest.raises(RateLimited) as refusal:
        limiter.check([tokens(3, "client")], tokens=1)
    assert refusal.value.retry_after == 60
    with pytest.raises(CostAboveLimit):
        limiter.check([tokens(3, "client")], tokens=4)


async def test_correction_is_shared_out_while_degraded(
    limiter: FallbackRateLimiter, server: Server
) -> None:
    """Alone, a process takes only its part of what the provider says is left."""
    limiter.correct(tokens(100), remaining=50)
    assert await left(limiter, tokens(100)) == 50
    server.down = True
    await limiter.reserve([requests(100)], tokens=1)
    limiter.correct(tokens(100), remaining=40)
    assert await left(limiter, tokens(100)) == 10


async def test_reservation_of_the_server_is_closed_in_both(
    limiter: FallbackRateLimiter, server: Server
) -> None:
    """What the server admitted, and was settled or cancelled after it went, is so here too."""
    settled, cancelled = [await limiter.reserve([tokens(100)], tokens=11) for _ in range(2)]
    server.down = True
    await limiter.reserve([requests(100)], tokens=1)
    settled.settle(tokens=3)
    assert await left(limiter, tokens(100)) == 9
    cancelled.cancel()
    assert await left(limiter, tokens(100)) == 20


async def test_no_process_shares_nothing(server: Server) -> None:
    """The limits are shared by one process at least."""
    with pytest.raises(ValueError, match="not 0"):
        FallbackRateLimiter(server, processes=0)
